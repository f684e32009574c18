package command

import (
	"math/big"
	"strings"

	"github.com/holdfast-db/holdfast/server/reply"
)

// Redis computes INCRBYFLOAT and HINCRBYFLOAT with the long double of x86: 64 bits of mantissa. big.Float with that
// precision and rounding gives the same sums, and the same decimals.
const longDoubleBits = 64

// longDoubleMaxExp is the largest binary exponent of an x87 number; longDoubleMinExp that of the largest number that it
// rounds to 0 (half of its smallest), in the terms of big.Float: a mantissa of 0.5 … 1.
const (
	longDoubleMaxExp = 16384
	longDoubleMinExp = -16445
)

// parseLongDouble parses b as Redis's string2ld does; inf is a value, NaN is not.
func parseLongDouble(b []byte) (*big.Float, bool) {
	s := strings.ToLower(string(b))
	if len(s) == 0 || len(s) > 5*1024 || strings.ContainsAny(s, "_ \t\r\n\v\f\x00") {
		return nil, false
	}
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return nil, false
	}
	if digits == "inf" || digits == "infinity" {
		return new(big.Float).SetInf(s[0] == '-'), true
	}
	base := 10
	if strings.HasPrefix(digits, "0x") {
		base = 0
		if !strings.Contains(digits, "p") {
			s += "p0"
		}
	} else if strings.ContainsAny(digits, "pxob") {
		return nil, false
	}
	f, _, err := big.ParseFloat(s, base, longDoubleBits, big.ToNearestEven)
	if err != nil || f.MantExp(nil) > longDoubleMaxExp || longDoubleUnderflow(f, b) {
		return nil, false
	}
	return f, true
}

// longDoubleUnderflow tells whether f, read from text, is something else than 0 for which x87 has no number but 0.
func longDoubleUnderflow(f *big.Float, text []byte) bool {
	if f.Sign() == 0 {
		return !zeroMantissa(text)
	}
	mant := new(big.Float)
	exp := f.MantExp(mant)
	// Exactly half of the smallest number is rounded to the even one, 0.
	return exp < longDoubleMinExp || exp == longDoubleMinExp && mant.Abs(mant).Cmp(big.NewFloat(0.5)) == 0
}

// formatLongDouble writes f as Redis does for people: 17 decimals, without the zeros at their end.
func formatLongDouble(f *big.Float) []byte {
	s := f.Text('f', 17)
	if strings.IndexByte(s, '.') >= 0 {
		s = strings.TrimRight(s, "0")
		s = strings.TrimSuffix(s, ".")
	}
	if s == "-0" {
		s = "0"
	}
	return []byte(s)
}

// incrByFloat adds the number in arg to the one in old (nil: 0). It replies with the error that Redis gives for the
// command if one of them is not a number or the sum is not finite.
func (c *Ctx) incrByFloat(old, arg []byte) (sum []byte, ok bool) {
	hash := c.Spec.Group == "hash"
	var a, b *big.Float
	parse := func(p []byte, msg string) (*big.Float, bool) {
		f, ok := parseLongDouble(p)
		if !ok {
			c.W.Error(msg)
		}
		return f, ok
	}
	a = new(big.Float).SetPrec(longDoubleBits)
	if hash {
		if b, ok = parse(arg, reply.NotFloat); !ok {
			return nil, false
		}
		if b.IsInf() {
			c.W.Error(reply.ValueNaNOrInf)
			return nil, false
		}
		if old != nil {
			if a, ok = parse(old, reply.HashNotFloat); !ok {
				return nil, false
			}
		}
	} else {
		if old != nil {
			if a, ok = parse(old, reply.NotFloat); !ok {
				return nil, false
			}
		}
		if b, ok = parse(arg, reply.NotFloat); !ok {
			return nil, false
		}
	}
	if a.IsInf() || b.IsInf() {
		c.W.Error(reply.IncrNaN)
		return nil, false
	}
	r := new(big.Float).SetPrec(longDoubleBits).SetMode(big.ToNearestEven).Add(a, b)
	if r.MantExp(nil) > longDoubleMaxExp {
		c.W.Error(reply.IncrNaN)
		return nil, false
	}
	return formatLongDouble(r), true
}
