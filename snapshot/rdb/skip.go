package rdb

// SkipValue returns what comes after the value of type t at the start of payload, without decoding it. It knows streams
// and module values too, and checks no packed encoding.
func SkipValue(t Type, payload []byte) (rest []byte, err error) {
	s := source{b: payload}
	if err := s.skip(t); err != nil {
		return nil, err
	}
	return payload[s.pos:], nil
}

func (s *source) skipLens(n int) error {
	for range n {
		if _, err := s.len(); err != nil {
			return err
		}
	}
	return nil
}

// skipString passes over a string without decompressing it.
func (s *source) skipString() error {
	n, enc, err := s.lenOrEnc()
	if err != nil {
		return err
	}
	if enc && n == encLZF {
		if n, err = s.len(); err != nil {
			return err
		}
		if err := s.skipLens(1); err != nil {
			return err
		}
	} else if enc && n <= encInt32 {
		n = 1 << n
	} else if enc {
		return corrupt("string encoding")
	}
	_, err = s.take(n)
	return err
}

// repeat reads a count and runs each that often. Every run consumes bytes, so a hostile count ends with the input.
func (s *source) repeat(each func() error) error {
	n, err := s.len()
	for ; err == nil && n > 0; n-- {
		err = each()
	}
	return err
}

func (s *source) skipRaw(n uint64) error { _, err := s.take(n); return err }

func (s *source) skip(t Type) error {
	str := s.skipString
	pair := func() error { return first(str, str) }
	switch t {
	case TypeString, TypeHashZipmap, TypeListZiplist, TypeSetIntset, TypeZSetZiplist, TypeHashZiplist,
		TypeHashListpack, TypeZSetListpack, TypeSetListpack:
		return str()
	case TypeList, TypeSet, TypeListQuicklist:
		return s.repeat(str)
	case TypeHash:
		return s.repeat(pair)
	case TypeZSet:
		return s.repeat(func() error {
			return first(str, func() error {
				n, err := s.byte()
				if err == nil && n < 253 {
					err = s.skipRaw(uint64(n))
				}
				return err
			})
		})
	case TypeZSet2:
		return s.repeat(func() error { return first(str, func() error { return s.skipRaw(8) }) })
	case TypeListQuicklist2:
		return s.repeat(func() error { return first(func() error { return s.skipLens(1) }, str) })
	case TypeHashMetadata:
		return first(func() error { return s.skipRaw(8) }, func() error {
			return s.repeat(func() error { return first(func() error { return s.skipLens(1) }, pair) })
		})
	case TypeHashMetadataRC:
		return s.repeat(func() error { return first(func() error { return s.skipLens(1) }, pair) })
	case TypeHashListpackExRC:
		return str()
	case TypeHashListpackEx:
		return first(func() error { return s.skipRaw(8) }, str)
	case TypeModule2:
		return first(func() error { return s.skipLens(1) }, s.skipModule)
	case TypeStreamListpacks, TypeStreamListpacks2, TypeStreamListpacks3:
		return s.skipStream(t)
	}
	return unsupported(t)
}

// first runs steps until one fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// skipModule passes over a module's opcodes to its EOF: 1 and 2 integers, 3 float, 4 double, 5 string.
func (s *source) skipModule() error {
	for {
		op, err := s.len()
		if err != nil {
			return err
		}
		switch op {
		case 0:
			return nil
		case 1, 2:
			err = s.skipLens(1)
		case 3:
			err = s.skipRaw(4)
		case 4:
			err = s.skipRaw(8)
		case 5:
			err = s.skipString()
		default:
			err = corrupt("module opcode")
		}
		if err != nil {
			return err
		}
	}
}

func (s *source) skipStream(t Type) error {
	since := func(min Type, n int) func() error { // lengths that exist from that type on
		return func() error {
			if t < min {
				return nil
			}
			return s.skipLens(n)
		}
	}
	lens := func(n int) func() error { return func() error { return s.skipLens(n) } }
	raw := func(n uint64) func() error { return func() error { return s.skipRaw(n) } }
	many := func(each ...func() error) func() error {
		return func() error { return s.repeat(func() error { return first(each...) }) }
	}
	times := uint64(8)
	if t >= TypeStreamListpacks3 {
		times = 16
	}
	consumer := many(s.skipString, raw(times), many(raw(16)))
	group := many(s.skipString, lens(2), since(TypeStreamListpacks2, 1), many(raw(16), raw(8), lens(1)), consumer)
	return first(many(s.skipString, s.skipString), lens(3), since(TypeStreamListpacks2, 5), group)
}
