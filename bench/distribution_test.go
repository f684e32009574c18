package bench

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDistributions(t *testing.T) {
	const seed, draws = 7, 400_000
	for _, keys := range []int64{1, 2, 3, 10, 1000, 999_983} {
		for _, name := range []string{Uniform, Zipf, Hotspot} {
			d, err := NewDistribution(name, keys)
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 1000 {
				n := d.Draw(rng)
				require.True(t, 0 <= n && n < keys, "%s over %d keys drew %d", name, keys, n)
			}
		}
	}
	for _, name := range []string{"", "normal"} {
		_, err := NewDistribution(name, 10)
		require.ErrorContains(t, err, "unknown distribution")
	}
	_, err := NewDistribution(Uniform, 0)
	require.Error(t, err)

	// Zipf: the share of each of the frequent ranks is 1/(rank^0.99 · zeta), within five standard deviations.
	const keys = 10_000
	d, err := NewDistribution(Zipf, keys)
	require.NoError(t, err)
	rng, counts, zeta := rand.New(rand.NewPCG(seed, 1)), make([]int64, keys), 0.0
	for i := range keys {
		zeta += math.Pow(float64(i+1), -zipfExponent)
	}
	for range draws {
		counts[d.rank(rng)]++
	}
	require.InDelta(t, zeta, d.zeta, 1e-9)
	for rank := range 2 { // these are exact
		p := math.Pow(float64(rank+1), -zipfExponent) / zeta
		require.InDelta(t, p*draws, counts[rank], 5*math.Sqrt(draws*p*(1-p)), "rank %d", rank)
	}
	sum, want := int64(0), 0.0
	for rank := range 100 { // the inversion's error is below 1 % of the sum
		sum += counts[rank]
		want += math.Pow(float64(rank+1), -zipfExponent) / zeta
	}
	require.InEpsilon(t, want*draws, float64(sum), 0.03)

	// Its spreading is a permutation: each rank has a number of its own.
	seen := map[int64]bool{}
	for rank := range int64(keys) {
		seen[rank*d.step%keys] = true
	}
	require.Len(t, seen, keys)

	// A hotspot: four fifths of the accesses in a fifth of the keys.
	d, err = NewDistribution(Hotspot, keys)
	require.NoError(t, err)
	hot := 0
	for range draws {
		if d.Draw(rng) < keys/5 {
			hot++
		}
	}
	require.InDelta(t, 0.8*draws, hot, 5*math.Sqrt(draws*0.16))
}
