package command

import "strings"

// AllCategories returns the names of the ACL categories, without the '@'.
func AllCategories() []string { return catNames[:] }

// CategoryNamed returns the bit of a category; 0 if there is none of that name. "all" has every bit.
func CategoryNamed(name string) Categories {
	if name == "all" {
		return 1<<catCount - 1
	}
	for i, n := range catNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// MatchGlob matches s with a pattern of KEYS, as globMatch does.
func MatchGlob(pattern, s []byte) bool { return globMatch(pattern, s) }

// MatchName matches a name (of a command, of a directive) with a pattern of KEYS, ignoring case.
func MatchName(pattern, name string) bool {
	return globMatch([]byte(strings.ToLower(pattern)), []byte(strings.ToLower(name)))
}
