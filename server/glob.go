package server

// globMatch matches a name with one of Redis's patterns, in any case: * ? [a-z] [^a-z] and \ before a character that
// stands for itself. Names of directives and commands are short, so the plain recursion on '*' is bounded by them.
func globMatch(pattern, name string) bool {
	for len(pattern) > 0 {
		switch pattern[0] {
		case '*':
			for len(pattern) > 1 && pattern[1] == '*' {
				pattern = pattern[1:]
			}
			if len(pattern) == 1 {
				return true
			}
			for i := range len(name) + 1 {
				if globMatch(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		case '?':
			if name == "" {
				return false
			}
			name = name[1:]
		case '[':
			if name == "" {
				return false
			}
			rest, ok := matchClass(pattern[1:], lower(name[0]))
			if !ok {
				return false
			}
			pattern, name = rest, name[1:]
			continue
		default:
			if pattern[0] == '\\' && len(pattern) > 1 {
				pattern = pattern[1:]
			}
			if name == "" || lower(pattern[0]) != lower(name[0]) {
				return false
			}
			name = name[1:]
		}
		pattern = pattern[1:]
	}
	return name == ""
}

// matchClass matches c with the class that p begins in the middle of, behind '['. rest is what follows the class; one
// that is not closed ends with the pattern.
func matchClass(p string, c byte) (rest string, ok bool) {
	not := len(p) > 0 && p[0] == '^'
	if not {
		p = p[1:]
	}
	found := false
	for len(p) > 0 && p[0] != ']' {
		switch {
		case p[0] == '\\' && len(p) > 1:
			found = found || lower(p[1]) == c
			p = p[2:]
		case len(p) > 2 && p[1] == '-':
			lo, hi := lower(p[0]), lower(p[2])
			found = found || min(lo, hi) <= c && c <= max(lo, hi)
			p = p[3:]
		default:
			found = found || lower(p[0]) == c
			p = p[1:]
		}
	}
	if len(p) > 0 {
		p = p[1:]
	}
	return p, found != not
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
