"""What ``topkin embed`` reads of a configuration where it runs a trained model over a table."""

from pydantic import Field, model_validator

from topkin.config.encoder import EncoderSettings
from topkin.config.section import Section
from topkin.config.sections import EmbedSettings, ItemsSettings, UsersSettings


class EncoderRunSettings(Section):
    """The sections that `topkin embed` reads where it runs a trained model."""

    encoder: EncoderSettings
    items: ItemsSettings | None = None
    users: UsersSettings | None = None
    embed: EmbedSettings = Field(default_factory=lambda: EmbedSettings())

    @model_validator(mode="after")
    def _has_a_table(self) -> "EncoderRunSettings":
        if self.items is None and self.users is None:
            raise ValueError("a table of items or of users must be named: set items.path or users.path")
        if "user_inputs" in self.encoder.model_fields_set and self.users is None:
            raise ValueError("encoder.user_inputs is for a table of users: set users.path, or leave it out")
        return self

    @property
    def sides(self) -> list[str]:
        """Whom the configuration has embedded: items, and users where their inputs are told or they are alone."""
        users = self.users is not None and (self.items is None or "user_inputs" in self.encoder.model_fields_set)
        return [*(["items"] if self.items is not None else []), *(["users"] if users else [])]
