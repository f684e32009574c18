package command

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
