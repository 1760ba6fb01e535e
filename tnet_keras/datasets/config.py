"""How the settings of a drawn data set become JSON, and come back."""

import dataclasses


class DrawnConfig:
    """Base of the frozen dataclasses that say how a data set is drawn."""

    def get_config(self):
        """The fields as a dict of JSON types."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`.

        Args:
            config: dict, as of `get_config`.
        """
        return cls(**config)


def check_ranges(config, names):
    """Checks fields that are ranges.

    Args:
        config: A dataclass; tuples take the place of other sequences in it.
        names: Names of fields.

    Raises:
        ValueError: unless each is (low, high) with 0 < low <= high.
    """
    for name in names:
        value = getattr(config, name)
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise ValueError(
                f"`{name}` must be (low, high) with 0 < low <= high. Received: {name}={value}"
            )
        object.__setattr__(config, name, tuple(value))
