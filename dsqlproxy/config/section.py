"""What every section of the configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What every section has in common: frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
