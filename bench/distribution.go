package bench

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// Distributions of keys, by name.
const (
	Uniform = "uniform"
	Zipf    = "zipf"    // the n-th most frequent key is drawn in proportion to n^-0.99, as in YCSB
	Hotspot = "hotspot" // a fifth of the keys gets four fifths of the accesses
)

const (
	zipfExponent  = 0.99
	hotspotKeys   = 0.2
	hotspotAccess = 0.8
)

// Distribution draws numbers of keys. It is shared: what a connection needs of its own is the source of randomness.
type Distribution struct {
	name string
	keys int64
	// Of Zipf: constants of the inversion, and the step that spreads the frequent keys over all numbers.
	zeta, alpha, eta, half float64
	step                   int64
}

// NewDistribution prepares a distribution over 0 … keys-1. Zipf's takes some 30 ns for each key.
func NewDistribution(name string, keys int64) (*Distribution, error) {
	d := &Distribution{name: name, keys: keys}
	switch name {
	case Uniform, Hotspot:
	case Zipf:
		// J. Gray et al., Quickly Generating Billion-Record Synthetic Databases, SIGMOD 1994: exact for the two most frequent keys,
		// and by inversion of the integral for the others.
		for i := keys; i > 0; i-- { // the small ones first, for the sum's precision
			d.zeta += math.Pow(float64(i), -zipfExponent)
		}
		d.half = 1 + math.Pow(0.5, zipfExponent)
		d.alpha = 1 / (1 - zipfExponent)
		d.eta = (1 - math.Pow(2/float64(keys), 1-zipfExponent)) / (1 - d.half/d.zeta)
		d.step = spreadingStep(keys)
	default:
		return nil, fmt.Errorf("unknown distribution of keys %q; there are %s, %s and %s", name, Uniform, Zipf, Hotspot)
	}
	if keys < 1 {
		return nil, fmt.Errorf("a distribution over %d keys", keys)
	}
	return d, nil
}

// Draw returns the number of a key.
func (d *Distribution) Draw(rng *rand.Rand) int64 {
	switch d.name {
	case Zipf:
		// Neighbours in frequency are not neighbours in number: rank·step is a permutation, for step has no divisor in common with keys.
		hi, lo := bits.Mul64(uint64(d.rank(rng)), uint64(d.step))
		return int64(bits.Rem64(hi, lo, uint64(d.keys)))
	case Hotspot:
		hot := max(1, int64(hotspotKeys*float64(d.keys)))
		if hot == d.keys || rng.Float64() < hotspotAccess {
			return rng.Int64N(hot)
		}
		return hot + rng.Int64N(d.keys-hot)
	}
	return rng.Int64N(d.keys)
}

// rank draws 0 for the most frequent key, 1 for the next …
func (d *Distribution) rank(rng *rand.Rand) int64 {
	u := rng.Float64()
	switch uz := u * d.zeta; {
	case uz < 1 || d.keys == 1:
		return 0
	case uz < d.half || d.keys == 2:
		return 1
	}
	return min(int64(float64(d.keys)*math.Pow(d.eta*u-d.eta+1, d.alpha)), d.keys-1)
}

// rankOf draws how often a key is used: 0 for the most frequent, 1 for the next … Of distributions other than Zipf's, a number as Draw does.
func (d *Distribution) rankOf(rng *rand.Rand) int64 {
	if d.name == Zipf {
		return d.rank(rng)
	}
	return d.Draw(rng)
}

// spreadingStep is a number near n times the golden section that has no divisor in common with n.
func spreadingStep(n int64) int64 {
	step := max(1, int64(float64(n)*0.6180339887))
	for ; gcd(step, n) != 1; step++ {
	}
	return step
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
