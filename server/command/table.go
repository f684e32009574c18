package command

// Table finds specs by name. It is immutable once built, so any number of goroutines may read it.
type Table struct {
	byName map[string]*Spec
	all    []*Spec // top level, in the order of the families
	count  int     // rows including subcommands
}

// NewTable builds the table of all commands.
func NewTable() *Table {
	t := &Table{byName: make(map[string]*Spec, 512)}
	for _, family := range families() {
		for i := range family {
			s := new(Spec)
			*s = family[i]
			s.Subcommands = append([]Spec(nil), s.Subcommands...)
			s.FullName = s.Name
			s.SyntaxArgs = mustSyntax(s.FullName, s.Syntax)
			s.ID = t.count
			t.count++
			if _, dup := t.byName[s.Name]; dup {
				panic("command: two rows named " + s.Name)
			}
			for j := range s.Subcommands {
				sub := &s.Subcommands[j]
				sub.FullName = s.Name + "|" + sub.Name
				sub.SyntaxArgs = mustSyntax(sub.FullName, sub.Syntax)
				sub.ID = t.count
				t.count++
			}
			t.byName[s.Name] = s
			t.all = append(t.all, s)
		}
	}
	return t
}

// Lookup finds a command by its name in any case; nil if there is none. It does not allocate.
func (t *Table) Lookup(name []byte) *Spec {
	var buf [64]byte
	if len(name) > len(buf) {
		return nil
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return t.byName[string(buf[:len(name)])]
}

// Sub finds a subcommand of s by its name in any case; nil if there is none.
func (s *Spec) Sub(name []byte) *Spec {
	for i := range s.Subcommands {
		if equalFold(name, s.Subcommands[i].Name) {
			return &s.Subcommands[i]
		}
	}
	return nil
}

// All returns the top-level rows. The slice must not be changed.
func (t *Table) All() []*Spec { return t.all }

// Count returns the number of rows, subcommands included: Spec.ID is below it.
func (t *Table) Count() int { return t.count }

// equalFold compares b with an ASCII lower-case or upper-case word, ignoring case.
func equalFold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		w := word[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if 'A' <= w && w <= 'Z' {
			w += 'a' - 'A'
		}
		if c != w {
			return false
		}
	}
	return true
}
