"""The tables [idle] and [idle.signals]: when the machine counts as idle, and what counts as work."""

from __future__ import annotations

from dataclasses import dataclass

from devsync.settings import schema
from devsync.settings.schema import setting


def _signal(doc: str) -> str:
    """How one sign of work is taken."""
    return setting(schema.choice("on", "off", "advisory"), "on", doc)


@dataclass(frozen=True, slots=True)
class SignalsConfig:
    """[idle.signals]"""

    local_edits: str = _signal("files that were changed here")
    remote_edits: str = _signal("mirrored files that were changed on the machine")
    jobs: str = _signal("what devsync runs there")
    sessions: str = _signal("people's terminals and editors")
    jupyter_kernels: str = _signal("kernels that compute")
    cpu: str = _signal("the processors")
    gpu: str = _signal("the graphics processors")
    containers: str = _signal("containers that compute")
    network: str = _signal("what is downloaded and uploaded, without devsync")


@dataclass(frozen=True, slots=True)
class IdleConfig:
    """[idle]: seconds"""

    after: float | None = setting(
        schema.DURATION_OR_NEVER, "45m", "deallocate the machine when nothing happened for so long; or never"
    )
    warn: float = setting(schema.PAUSE, "5m", "time between the warning and the end, not longer than after")
    check: float = setting(schema.DURATION, "30s", "how often to look")
    unreachable: float | None = setting(
        schema.DURATION_OR_OFF, "2h", "a machine that is billed and out of reach for so long is told of"
    )
    at: float | None = setting(
        schema.TIME_OF_DAY_OR_OFF, "off", "deallocate at this time each day, warned, whoever works; or off"
    )
    at_jobs: str = setting(
        schema.choice("wait", "end"), "wait", "what runs by itself at that time: wait for it | end it"
    )
    quiet: tuple[float, float] | None = setting(
        schema.HOURS_OR_OFF, "off", "hours without notifications, such as 22:00-07:00; or off"
    )
    cpu: float = setting(schema.PERCENT, 20, "percent of one core that people's processes may use")
    gpu: float = setting(schema.PERCENT, 5, "percent of a graphics processor that may be in use")
    gpu_stale: float = setting(
        schema.PAUSE, "30m", "memory of such a device that is held unused for so long is shown"
    )
    network: int = setting(
        schema.SIZE, "1MiB", "bytes a second, for a minute, that others than devsync may carry"
    )
    ignore: tuple[str, ...] = setting(
        schema.TEXTS, [], "files whose changes are no work, such as a log; as in .gitignore"
    )
    signals: SignalsConfig = SignalsConfig()
