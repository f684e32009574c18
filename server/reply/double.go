package reply

import (
	"math"
	"strconv"
)

// AppendDouble appends f as Redis 7.0 prints a score: C's %.17g, with inf, -inf and nan in words. Not the shortest
// form: 0.1 is 0.10000000000000001, as that version's clients see it.
func AppendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case f != f:
		return append(dst, "nan"...)
	}
	// Integers below 10^17 have at most 17 digits, so %.17g prints them without a point and exactly. -0 keeps its sign.
	if f > -1e17 && f < 1e17 {
		if n := int64(f); float64(n) == f && (n != 0 || !math.Signbit(f)) {
			return strconv.AppendInt(dst, n, 10)
		}
	}
	return strconv.AppendFloat(dst, f, 'g', 17, 64)
}
