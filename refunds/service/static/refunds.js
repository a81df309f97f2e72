// The pages work without this file. With it, time runs, lists stay fresh and keys move.
"use strict";

// --- Time left ---

function left(until) {
  const minutes = Math.floor((new Date(until) - Date.now()) / 60000);
  if (minutes < 0) return "over";
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}

function tick() {
  for (const time of document.querySelectorAll("[data-until]")) {
    time.textContent = left(time.dateTime);
  }
}
setInterval(tick, 30000);

// --- A list that stays fresh; what is ticked stays ticked ---

async function refresh(list) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const ticked = new Set(Array.from(list.querySelectorAll(":checked"), (box) => box.value));
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  list.replaceChildren(...page.getElementById("list").childNodes);
  for (const box of list.querySelectorAll("[name=chosen]")) box.checked = ticked.has(box.value);
  if (focused) {
    const again = Array.from(list.querySelectorAll("a")).find((a) => a.getAttribute("href") === focused);
    if (again) again.focus();
  }
  document.getElementById("count").textContent = page.getElementById("count").textContent;
}

const list = document.querySelector("[data-live]");
if (list) {
  let known = null;
  const changes = new EventSource(list.dataset.live);
  changes.addEventListener("changed", (event) => {
    if (known !== null && known !== event.data) refresh(list);
    known = event.data;
  });
  addEventListener("pagehide", () => changes.close());
}

// --- All at once ---

for (const button of document.querySelectorAll("[data-tick-all]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    for (const box of button.form.querySelectorAll("[name=chosen]")) box.checked = true;
  });
}

// --- Keys: never a decision by a single one ---

function move(step) {
  const rows = Array.from(document.querySelectorAll("[data-row]"));
  const here = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(Math.max(here + step, 0), rows.length - 1)];
  if (next) next.querySelector("a").focus();
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const row = document.activeElement && document.activeElement.closest("[data-row]");
  const marked = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "x" && row) row.querySelector("[name=chosen]").click();
  else if (marked) marked.focus();
  else return;
  event.preventDefault();
});
