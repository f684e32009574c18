package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBucketsAreDense(t *testing.T) {
	prev := -1
	for v := range uint64(1 << 16) {
		b := bucketOf(time.Duration(v))
		require.True(t, b == prev || b == prev+1, "bucket of %d is %d after %d", v, b, prev)
		require.GreaterOrEqual(t, bucketTop(b), time.Duration(v))
		prev = b
	}
	require.Less(t, bucketOf(math.MaxInt64), len(Histogram{}.counts))
	require.Equal(t, time.Duration(math.MaxInt64), bucketTop(bucketOf(math.MaxInt64)))
	require.Zero(t, bucketOf(-5))
}

func TestQuantilesAgainstSorting(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, seed))
	var a, b Histogram
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(math.Exp(rng.Float64()*20) * 100)
		all = append(all, d)
		if i%2 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	a.Merge(&b)
	slices.Sort(all)
	require.Equal(t, int64(len(all)), a.Count())
	require.Equal(t, all[len(all)-1], a.Max())
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		got := a.Quantile(q)
		require.GreaterOrEqual(t, got, want, "seed %d, quantile %v", seed, q)
		require.LessOrEqual(t, float64(got), float64(want)*1.017+1, "seed %d, quantile %v", seed, q)
	}
	require.Zero(t, new(Histogram).Quantile(0.5))
}
