"""Perceptual hashes, and the search for near-duplicates across a split.

Hashes that differ in at most three bits agree in one of their four parts of 16 bits (a band), and
there in one of the four parts of 12 bits of the rest. For each band the hashes are written to disk
in runs sorted by it; a bucket, a range of values of the band, is a slice of each run, and is
compared in memory by the 16 + 12 bits.

Reference: Manku, Jain and Das Sarma (2007), "Detecting near-duplicates for web crawling".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64, Shaped, UInt8, UInt32, UInt64
from PIL import Image

from avq.data.channels import to_pil

SIDE, KEPT = 32, 8
MAX_BITS = 3
BANDS, BAND_BITS = 4, 16
PARTS, PART_BITS = 4, 12  # of what a band leaves
REST_BITS = PARTS * PART_BITS
CHUNK = 1 << 20  # hashes held at a time
BUCKETS_PER_CHUNK, MOST_BUCKETS = 8, 1 << 12  # small buckets are compared in the processor's cache
FILTER_BITS = 20  # of a key; a table of so many bytes stays in the cache, too
CANDIDATES = 1 << 18  # pairs compared at a time, but for those of one hash
SCANNED = 1 << 10  # hashes compared at a time with the rows of the first pairs
RECORD = np.dtype([("hash", "<u8"), ("row", "<i8")])


def _cosines() -> Float64[np.ndarray, "KEPT SIDE"]:
    """Lowest frequencies of the discrete cosine transform of SIDE values."""
    places = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    return np.cos(np.arange(1, KEPT + 1)[:, None] * places)


COSINES = _cosines()


def perceptual_hash(image: UInt8[np.ndarray, "h w c"]) -> int:
    """Hashes an image to 64 bits that change little when it is resized, compressed or slightly
    brightened: which of the 8x8 lowest frequencies of its grey 32x32 thumbnail are above their
    median.

    Reference: Zauner (2010), "Implementation and benchmarking of perceptual image hash functions".
    """
    small = to_pil(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    frequencies = COSINES @ np.asarray(small, np.float64) @ COSINES.T
    bits = (frequencies > np.median(frequencies)).ravel()
    return int(np.packbits(bits).view(">u8")[0])


@dataclass
class NearDuplicates:
    """Pairs of rows, one of each side, whose hashes differ in at most three bits.

    Attributes:
        pairs: number of all of them.
        first: the first ones, ascending.
    """

    pairs: int
    first: list[tuple[int, int]]


def near_duplicates(
    left: Path, right: Path, scratch: Path, *, most: int, chunk: int = CHUNK
) -> NearDuplicates:
    """Finds all pairs of rows whose hashes differ in at most three bits.

    Memory depends on `chunk` and `most`, and hardly on the number of hashes (0.03 bytes each); on
    disk a hash takes 16 bytes. Equal hashes on the right are counted at once, so that of a picture
    which comes a million times no pair of copies is looked at by itself.

    Args:
        left, right: files of perceptual hashes, `<u8`, in the order of the rows.
        scratch: folder for intermediate files.
        most: number of pairs to return.
        chunk: hashes to hold at a time; changes no result.
    """
    hashes = sum(path.stat().st_size // 8 for path in (left, right))
    wanted = max(1, BUCKETS_PER_CHUNK * hashes // chunk)
    buckets = min(MOST_BUCKETS, 1 << (wanted - 1).bit_length())
    pairs, rows = 0, np.empty(0, np.int64)
    for band in range(BANDS):
        runs = [
            _SortedRuns(path, band, scratch / f"{name}.runs", buckets, chunk)
            for path, name in ((left, "left"), (right, "right"))
        ]
        for matched, times in _matches(runs[0], runs[1], band):
            pairs += int(times.sum())
            rows = np.unique(np.concatenate([rows, matched]))[:most]
    return NearDuplicates(pairs, _first_pairs(left, right, rows, most, chunk) if pairs else [])


def hash_blocks(file: Path, size: int) -> Iterator[tuple[int, UInt64[np.ndarray, "n"]]]:
    """Yields the hashes of a file, up to `size` at a time, each time with the row of the first."""
    with file.open("rb") as stream:
        row = 0
        while len(block := np.fromfile(stream, "<u8", size)):
            yield row, block.astype(np.uint64)
            row += len(block)


class _SortedRuns:
    """Hashes and rows on disk, sorted by a band in runs of up to `chunk`; the band lies in the
    highest bits.

    Args:
        hashes: file of hashes.
        band: number of the band.
        file: to write.
        buckets: equal ranges of the band's values; a power of two.
        chunk: hashes to hold at a time.
    """

    def __init__(self, hashes: Path, band: int, file: Path, buckets: int, chunk: int) -> None:
        self.buckets, self._file, self._chunk = buckets, file, chunk
        self._places: list[np.ndarray] = []  # of the buckets of each run, and its end
        edges = np.arange(buckets + 1) * ((1 << BAND_BITS) // buckets)
        with file.open("wb") as stream:
            for first, block in hash_blocks(hashes, chunk):
                turned = block << BAND_BITS * band | block >> (64 - BAND_BITS * band) % 64
                values = (turned >> REST_BITS).astype(np.uint16)
                order = np.argsort(values, kind="stable")  # a radix sort, for these 16 bits
                records = np.empty(len(block), RECORD)
                records["hash"], records["row"] = turned[order], first + order
                records.tofile(stream)
                self._places.append(first + np.searchsorted(values[order], edges))

    def blocks(self, bucket: int) -> Iterator[Shaped[np.ndarray, "n"]]:
        """Yields the records of a bucket, up to `chunk` at a time."""
        parts: list[bytes] = []
        held = 0
        with self._file.open("rb") as stream:
            for places in self._places:
                start, stop = places[bucket : bucket + 2].tolist()
                if parts and held + stop - start > self._chunk:
                    yield np.frombuffer(b"".join(parts), RECORD)
                    parts, held = [], 0
                stream.seek(start * RECORD.itemsize)
                parts.append(stream.read((stop - start) * RECORD.itemsize))
                held += stop - start
        if held:
            yield np.frombuffer(b"".join(parts), RECORD)


def _matches(
    left: _SortedRuns, right: _SortedRuns, band: int
) -> Iterator[tuple[Int64[np.ndarray, "k"], Int64[np.ndarray, "k"]]]:
    """Yields rows of the left side, and how many rows of the right are close to each, of all pairs
    of which this band is the first to agree.
    """
    for bucket in range(left.buckets):
        for block in right.blocks(bucket):
            hashes, times = np.unique(block["hash"], return_counts=True)
            for records in left.blocks(bucket):
                for i, j in _close(np.ascontiguousarray(records["hash"]), hashes, band):
                    yield records["row"][i], times[j]


def _close(
    left: UInt64[np.ndarray, "n"], right: UInt64[np.ndarray, "m"], band: int
) -> Iterator[tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]]:
    """Yields places of close hashes that agree in a band and in no earlier one."""
    for part in range(PARTS):
        for i, j in _agreeing(_keys(left, part), _keys(right, part)):
            different = left[i] ^ right[j]
            close = np.flatnonzero(np.bitwise_count(different) <= MAX_BITS)
            close = close[~_agrees_before(different[close], band, part)]
            yield i[close], j[close]


def _keys(hashes: UInt64[np.ndarray, "n"], part: int) -> UInt32[np.ndarray, "n"]:
    """Band and a part of each hash, 28 bits."""
    rest = hashes >> PART_BITS * part & (1 << PART_BITS) - 1
    return (hashes >> REST_BITS << PART_BITS | rest).astype(np.uint32)


def _agrees_before(
    different: UInt64[np.ndarray, "n"], band: int, part: int
) -> Bool[np.ndarray, "n"]:
    """Which pairs agree in an earlier band, or in an earlier part with this one.

    Args:
        different: the bits in which they differ; this band in the highest bits, earlier ones in the
            lowest.
        band, part: number of each.
    """
    earlier = [BAND_BITS * k for k in range(band)], [PART_BITS * k for k in range(part)]
    agrees = np.zeros(len(different), bool)
    for shifts, bits in zip(earlier, (BAND_BITS, PART_BITS), strict=True):
        for shift in shifts:
            agrees |= different >> shift & (1 << bits) - 1 == 0
    return agrees


def _agreeing(
    left: UInt32[np.ndarray, "n"], right: UInt32[np.ndarray, "m"]
) -> Iterator[tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]]:
    """Yields places of equal keys of both sides, about `CANDIDATES` at a time."""
    low = (1 << FILTER_BITS) - 1
    seen = np.zeros(1 << FILTER_BITS, bool)
    seen[right & low] = True
    places = np.flatnonzero(seen[left & low])
    order = np.argsort(right)
    first, last = (np.searchsorted(right[order], left[places], side) for side in ("left", "right"))
    ends = np.cumsum(last - first)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(CANDIDATES, total, CANDIDATES))
    for some in np.split(np.arange(len(places)), cuts):
        counts = (last - first)[some]
        inner = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(places[some], counts), order[np.repeat(first[some], counts) + inner]


def _first_pairs(
    left: Path, right: Path, rows: Int64[np.ndarray, "k"], most: int, chunk: int
) -> list[tuple[int, int]]:
    """The first pairs, ascending, given the first rows of the left side that are in one."""
    hashes = np.array(np.memmap(left, "<u8", "r")[rows], np.uint64)
    pairs = np.empty((0, 2), np.int64)
    for start, block in hash_blocks(right, chunk):
        likely = np.flatnonzero(_agrees_in_a_band(block, hashes))
        for low in range(0, len(likely), SCANNED):
            some = likely[low : low + SCANNED]
            distances = np.bitwise_count(hashes[:, None] ^ block[some])
            i, j = np.nonzero(distances <= MAX_BITS)
            pairs = np.concatenate([pairs, np.stack([rows[i], start + some[j]], axis=1)])
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))][:most]
            if len(pairs) == most:  # a later row of the right makes no earlier pair with these
                keep = rows < pairs[-1, 0]
                rows, hashes = rows[keep], hashes[keep]
        if not len(rows):
            break
    return [(int(i), int(j)) for i, j in pairs]


def _agrees_in_a_band(
    hashes: UInt64[np.ndarray, "n"], others: UInt64[np.ndarray, "m"]
) -> Bool[np.ndarray, "n"]:
    """Which hashes agree in a band with one of the others."""
    agrees = np.zeros(len(hashes), bool)
    for band in range(BANDS):
        values, wanted = ((side >> BAND_BITS * band).astype(np.uint16) for side in (hashes, others))
        there = np.zeros(1 << BAND_BITS, bool)
        there[wanted] = True
        agrees |= there[values]
    return agrees
