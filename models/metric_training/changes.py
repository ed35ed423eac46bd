"""How rows are changed at random in training: images by augmenters, other columns by values of other rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.encoding.signature import EncoderInput
from topkin.models.metric_training.augment import Affine, Augmenter, Chain, Contrast, Erase, Flip, Shift
from topkin.models.metric_training.rows import Feeds, Rows

SUPERVISED = ("flip", "shift", "erase")
UNSUPERVISED = ("flip", "affine", "contrast", "erase")
CORRUPTED = 0.3
"""Share of the values that come from another row in a view without labels."""


class Changes:
    """A random version of a batch, drawn from a generator: the same generator state gives the same batch.

    Images are augmented. Where ``corrupt`` is set, numbers, categories and coordinates of vectors are in part those of
    another row of the batch, and words of texts are left out: what is left of an item must tell it.

    Bahri et al., SCARF: self-supervised contrastive learning using random feature corruption, ICLR 2022.

    Args:
        specs: Of the inputs.
        augmenters: For each image input what changes it.
        names: Of what the augmenters do.
        corrupt: Whether other columns are changed too.
    """

    def __init__(
        self,
        specs: Sequence[EncoderInput],
        augmenters: Mapping[str, Augmenter],
        names: frozenset[str] = frozenset(),
        *,
        corrupt: bool = False,
    ) -> None:
        self.specs, self.augmenters, self.names, self.corrupt = specs, augmenters, names, corrupt

    def settled(self) -> "Changes":
        """Images as they are served, but for mirror images: what the last epochs learn from."""
        flips = {name: Chain([one for one in _of(a) if isinstance(one, Flip)]) for name, a in self.augmenters.items()}
        return Changes(self.specs, flips, self.names & {"flip"}, corrupt=self.corrupt)

    def __call__(self, feeds: Feeds, rng: np.random.Generator) -> Feeds:
        """The batch changed; the arrays that came stay as they are."""
        out = {}
        for spec in self.specs:
            values = feeds[spec.name]
            if spec.kind == "image":
                shape = (len(values), *(*spec.shape, 1)[:3])
                augmenter = self.augmenters.get(spec.name)
                values = values if augmenter is None else augmenter(values.reshape(shape), rng).reshape(values.shape)
            elif self.corrupt:
                values = _fewer_words(values, rng) if spec.kind == "text" else _mixed(values, rng)
            out[spec.name] = values
        return out


def _of(augmenter: Augmenter) -> Sequence[Augmenter]:
    return augmenter.augmenters if isinstance(augmenter, Chain) else [augmenter]


def _mixed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    others = values[rng.permutation(len(values))]
    return np.where(rng.random(values.shape) < CORRUPTED, others, values)


def _fewer_words(texts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Texts, (n,) or (n, 1) of bytes, with some of their words left out, one at least kept."""
    words = pc.split_pattern(pa.array(texts.reshape(-1), pa.binary()).cast(pa.string()), " ")
    flat, lengths = pc.list_flatten(words), np.asarray(pc.list_value_length(words)).astype(np.int64)
    kept = rng.random(len(flat)) >= CORRUPTED
    starts = np.cumsum(lengths) - lengths
    kept[(starts + np.floor(rng.random(len(lengths)) * lengths)).astype(np.int64)] = True
    offsets = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, starts))]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), flat.filter(pa.array(kept)))
    joined = pc.binary_join(lists, " ").cast(pa.binary())
    return joined.to_numpy(zero_copy_only=False).reshape(texts.shape)


def augmenters_of(rows: Rows, names: Sequence[str], sample: np.ndarray) -> dict[str, Augmenter]:
    """What changes each image input, by the names of ``train.augment``; sizes follow from the images'.

    sample: numbers of rows whose edges say what the background is.
    """
    out: dict[str, Augmenter] = {}
    for spec in rows.specs:
        if spec.kind == "image" and names:
            height, width = spec.shape[:2]
            images = np.asarray(rows.columns[spec.name][np.sort(sample)]).reshape(len(sample), height, width, -1)
            edges = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
            out[spec.name] = _chain(names, min(height, width), float(np.median(edges)))
    return out


def _chain(names: Sequence[str], side: int, background: float) -> Augmenter:
    alone = "affine" in names  # the changes of views are wider than those beside labels
    kinds: dict[str, Augmenter] = {
        "flip": Flip(),
        "shift": Shift(max(1, round(side / 28)), background),
        "affine": Affine(4, 0.13, 0.0, 0.05 * side, background),
        "contrast": Contrast(0.6),
        "erase": Erase(0.6 if alone else 0.4, background, chance=1.0 if alone else 0.4),
    }
    return Chain([kinds[name] for name in names])
