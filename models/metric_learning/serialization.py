"""What distances, miners, reducers and losses have in common: a configuration that Keras can save."""

import inspect
from typing import Any, TypeVar

import keras
import tensorflow as tf

Tensor = tf.Tensor
Saved = TypeVar("Saved")


def serializable(cls: type[Saved]) -> type[Saved]:
    """Class decorator: saved as ``topkin>Name``, loaded without naming it in ``custom_objects``.

    Raises ValueError for a name that another class has: Keras would load the one for the other.
    """
    other = keras.saving.get_registered_object(f"topkin>{cls.__name__}")
    if other is not None and other.__module__ != cls.__module__:
        raise ValueError(f"names of saved classes must be unique, got {cls.__name__} of {other.__module__} again")
    return keras.saving.register_keras_serializable("topkin")(cls)


class Configured:
    """A part that is made of its constructor's arguments, kept as attributes of the same names."""

    @classmethod
    def options(cls) -> list[str]:
        """The names of the constructor's arguments, those passed on to a parent included."""
        names: dict[str, None] = {}
        for base in cls.__mro__:
            if issubclass(base, Configured) and "__init__" in vars(base):
                for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                    if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                        names[name] = None
        return list(names)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, parts among them serialised."""
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.options()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Configured":
        return cls(**{name: _part(value) for name, value in config.items()})

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options())
        return f"{type(self).__name__}({settings})"


def _part(value: object) -> object:
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    if isinstance(value, list | tuple):
        return [_part(item) for item in value]
    return value
