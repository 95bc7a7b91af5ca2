"""Which application a command means: its folder, and its settings."""

from pathlib import Path

from fissile.settings.load import load
from fissile.settings.schema import Settings


def placed(folder: Path, target: str) -> tuple[Path, str]:
    """The folder of an application, and "module:attribute" where that is to run, else "".

    The target may name the folder, or its fissile.toml, from the other one on: so it was before there was -C.
    """
    module, _, attribute = target.partition(":")
    is_module = attribute.isidentifier() and all(map(str.isidentifier, module.split(".")))
    return (folder, target) if is_module and not (folder / target).exists() else (folder / target, "")


def settings_of(folder: Path, target: str = "", profile: str | None = None) -> Settings:
    """The settings of a folder with fissile.toml; or of "module:attribute" in it. Raises ConfigError."""
    folder, app = placed(folder, target)
    return Settings(app=app, root=str(folder.resolve())) if app else load(folder, profile)


def named_folder(settings: Settings) -> Path:
    """The application's folder as people named it: a link in that may be switched, so it is not followed."""
    return Path(settings.named or settings.root)
