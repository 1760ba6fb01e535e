"""Which images of a data set could not be read."""

import threading


class BadImages:
    """The images that a stream has left out so far, by name.

    It fills while the stream is read. As a stream reads ahead, it may know of images that would
    only come next. Each image counts once, however often a training stream comes to it.

    Attributes:
        num_examples: int, images of the data set; when all are bad, reading ends with an error.

    Example:
        bad = BadImages(num_examples=100)
        bad.add(3, "cat/3.jpg", "broken or truncated")
        assert bad.count == 1 and bad.first() == {"cat/3.jpg": "broken or truncated"}
        assert str(bad) == "1 of 100 images left out: 'cat/3.jpg' (broken or truncated)"
    """

    def __init__(self, num_examples):
        self.num_examples = num_examples
        self._found = {}
        self._lock = threading.Lock()

    @property
    def count(self):
        """int, how many different images were left out."""
        return len(self._found)

    def add(self, index, name, reason):
        """Remembers one image.

        Args:
            index: int, its number in the data set; names may repeat, numbers do not.
            name: str, its path or file name.
            reason: str, what is wrong with it.

        Raises:
            ValueError: if no image of the data set is left.
        """
        with self._lock:
            self._found[int(index)] = (name, reason)
            if self.count >= self.num_examples:
                raise ValueError(f"The data must hold an image that can be read. Received: {self}")

    def first(self, limit=5):
        """The images that stand first in the data set.

        Args:
            limit: int >= 0, how many at most.

        Returns:
            Dict from names to what is wrong, both str.
        """
        return dict(item for _, item in sorted(self._found.items())[:limit])

    def __str__(self):
        listed = ", ".join(f"{name!r} ({reason})" for name, reason in self.first().items())
        more = ", ..." if self.count > len(self.first()) else ""
        text = f"{self.count} of {self.num_examples} images left out"
        return f"{text}: {listed}{more}" if listed else text
