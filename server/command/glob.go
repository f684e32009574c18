package command

// globMatch matches s with a pattern of Redis's glob: * ? [abc] [^abc] [a-z] and \ before a literal. As Redis's
// stringmatchlen it takes an unclosed class to its end. Unlike it, a star never goes back behind the star before it, so the
// time is at most len(pattern) * len(s). The empty string is matched by the empty pattern only, not even by a star: commands
// whose pattern is "*" match everything without asking.
func globMatch(pattern, s []byte) bool {
	if len(s) == 0 {
		return len(pattern) == 0
	}
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, mark = p, i
				p++
				continue
			}
			if next, ok := globStep(pattern, p, s[i]); ok {
				p = next
				i++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// globStep matches one byte with the element of the pattern at p and returns where the next element begins.
func globStep(pattern []byte, p int, ch byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		p++
		not := p < len(pattern) && pattern[p] == '^'
		if not {
			p++
		}
		match := false
		for {
			switch {
			case p+1 < len(pattern) && pattern[p] == '\\':
				p++
				match = match || pattern[p] == ch
			case p < len(pattern) && pattern[p] == ']':
				return p + 1, match != not
			case p >= len(pattern):
				return p, match != not
			case p+2 < len(pattern) && pattern[p+1] == '-':
				lo, hi := pattern[p], pattern[p+2]
				if lo > hi {
					lo, hi = hi, lo
				}
				p += 2
				match = match || lo <= ch && ch <= hi
			default:
				match = match || pattern[p] == ch
			}
			p++
		}
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == ch
}
