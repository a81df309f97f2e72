// A dot opens its event; arrow keys move along the picture. Without this file the list is there.
"use strict";

const dots = Array.from(document.querySelectorAll(".picture [data-event]"));

function look(number) {
  const event = document.getElementById(`event-${number}`);
  if (!event) return;
  event.querySelector("details").open = true;
  for (const dot of dots) {
    if (dot.dataset.event === String(number)) dot.setAttribute("aria-current", "true");
    else dot.removeAttribute("aria-current");
  }
}

function fromAddress() {
  const found = /^#event-(\d+)$/.exec(location.hash);
  if (found) look(found[1]);
}

addEventListener("hashchange", fromAddress);
fromAddress();

for (const [place, dot] of dots.entries()) {
  dot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = dots[Math.min(Math.max(place + step, 0), dots.length - 1)];
    next.focus();
    look(next.dataset.event);
    event.preventDefault();
  });
}
