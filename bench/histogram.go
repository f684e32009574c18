package bench

import (
	"math/bits"
	"time"
)

// subBits is how finely the histogram divides a power of two: 2^6 steps keep the error of a quantile below 1.6 %.
const subBits = 6

// Histogram counts durations in buckets whose width grows with the duration. The zero value is empty. Not for concurrent use;
// merge what goroutines have gathered.
type Histogram struct {
	counts [(64 - subBits) << subBits]int64
	n      int64
	sum    time.Duration
	max    time.Duration
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// bucketTop is the largest duration that falls into a bucket.
func bucketTop(i int) time.Duration {
	if i < 2<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	return time.Duration((uint64(i-shift<<subBits)+1)<<shift - 1)
}

// Record adds one duration.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() int64 { return h.n }

// Max is the longest duration.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean is the average; 0 if empty.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n)
}

// Quantile returns a duration that a share q (0 … 1) of the recorded ones does not exceed, at most 1.6 % too long.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := int64(q * float64(h.n))
	if float64(want) < q*float64(h.n) {
		want++
	}
	want = max(want, 1)
	seen := int64(0)
	for i, c := range h.counts {
		if seen += c; c > 0 && seen >= want {
			return min(bucketTop(i), h.max)
		}
	}
	return h.max
}
