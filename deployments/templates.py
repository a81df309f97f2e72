"""The templates of one worker: found, started, replaced when the sources change."""

from __future__ import annotations

import asyncio
from typing import Any

from deployments.forked_child import Child
from deployments.template import Template, TemplateBrokenError, TemplateOrder


class Templates:
    """The templates of one worker, one for each way of running flows."""

    # Each holds about 100 MB; a pool rarely has more than one job environment.
    _kept_count = 4

    def __init__(self, begun: Template | None = None) -> None:
        self._begun = begun
        self._living: dict[TemplateOrder, Template] = {}
        self._retired: set[Template] = set()
        self._starting: dict[TemplateOrder, asyncio.Lock] = {}

    async def get(self, order: TemplateOrder) -> Template:
        """A template with the sources as they are now, started if need be.

        Raises:
            TemplateBrokenError: with the traceback of the import that failed.
        """
        async with self._starting.setdefault(order, asyncio.Lock()):
            template = self._living.get(order)
            if template is not None and template.is_usable:
                return template
            if template is not None:
                self._retire(self._living.pop(order))
            template = await self._new(order)
            await template.start()
            self._living[order] = template
        self._retire_surplus()
        return template

    async def fork(self, order: TemplateOrder, job: dict[str, Any]) -> Child:
        """Fork a child from a template with the sources as they are now.

        Raises:
            TemplateBrokenError: with the traceback of the import that failed.
        """
        template = await self.get(order)
        try:
            return await template.fork(job)
        except TemplateBrokenError:
            # It died since its last job: a fresh one takes over, and if that fails as
            # well there is something to report.
            return await (await self.get(order)).fork(job)

    async def close(self) -> None:
        """End all templates; children still there go on as orphans."""
        if self._begun is not None:
            await self._begun.abandon()
        for template in (*self._living.values(), *self._retired):
            await template.close()

    async def _new(self, order: TemplateOrder) -> Template:
        """The one that was begun if it is right, and another one if not."""
        begun, self._begun = self._begun, None
        if begun is None or begun.order == order:
            return begun or Template(order)
        await begun.abandon()
        return Template(order)

    def _retire(self, template: Template) -> None:
        self._retired = {one for one in self._retired if one.is_busy} | {template}
        template.retire()

    def _retire_surplus(self) -> None:
        surplus = len(self._living) - self._kept_count
        oldest_first = sorted(self._living.values(), key=lambda one: one.last_used)
        for template in oldest_first[: max(surplus, 0)]:
            self._retire(self._living.pop(template.order))
