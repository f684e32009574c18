package server

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-db/holdfast/server/command"
)

// This file is the mechanism of the configuration: what a directive is, how its value is parsed, and who may change it.
// The directives themselves are the rows of config_table.go; flags, files, CONFIG GET/SET/REWRITE and the reference page
// all come out of those rows, so that they cannot disagree. To add a directive, add a row and, if it acts at run time,
// an apply hook.

// valueKind is the type of a directive's value.
type valueKind uint8

const (
	kindBool    valueKind = iota // yes | no
	kindInt                      // decimal integer
	kindMemory                   // bytes: 100, 64kb, 512mb, 1gb …; shown in bytes
	kindPercent                  // bytes as kindMemory, or a percentage ("5%")
	kindOctal                    // a file mode
	kindEnum                     // one of directive.enum
	kindString                   // any text
	kindTime                     // a duration: 90s, 15m, 36h, or plain seconds; shown in seconds
	kindList                     // words, parsed by directive.parse
	kindEvents                   // letters of command.Events
)

// directiveFlags say what may be done with a directive.
type directiveFlags uint16

const (
	// fixed: cannot change while the server runs ("can't set immutable config").
	fixed directiveFlags = 1 << iota
	// protected: CONFIG SET refuses it unless enable-protected-configs allows it.
	protected
	// inert: Redis knows it, it has no meaning here. Accepted, kept, shown, and named in one warning at start.
	inert
	// hidden: CONFIG GET shows it only when asked by its exact name.
	hidden
	// secret: never logged.
	secret
	// own: a directive of Holdfast that Redis does not have.
	own
	// multi: several lines of a file add up (save, client-output-buffer-limit); REWRITE may write several.
	multi
	// live: its hook may run while the executor lock is held (it asks Server.withEngine for it), so that within a transaction
	// CONFIG SET takes effect in its place under the same hold. Before any other directive that has a hook the transaction
	// lets go of the lock.
	live
)

// directive is a row of the table.
type directive struct {
	name  string
	alias string // an older name; both are accepted and shown
	kind  valueKind
	def   string // in canonical form
	min   int64
	max   int64 // 0 with min 0 = no bounds
	enum  []string
	flags directiveFlags
	help  string

	// parse turns the words given into the canonical text; old is the present text (kindList, optional for others).
	parse func(words []string, old string) (string, error)
	// lines renders the value for CONFIG REWRITE, one line for each element; nil = one line by kind.
	lines func(name, text string) []string
	// apply makes a changed value take effect in a running server. It may refuse; the change is then undone.
	apply func(*Server) error
}

func (d *directive) has(f directiveFlags) bool { return d.flags&f != 0 }

// setting is the present value of a directive.
type setting struct {
	text string // canonical, as CONFIG GET shows it
	num  int64  // number for bool (0/1), int, memory, octal, time; index for enum; bits for events; -percent for kindPercent
}

// Config holds the value of every directive. It is safe for concurrent use.
type Config struct {
	table  []directive
	byName map[string]int // names and aliases

	mu struct {
		sync.RWMutex
		vals    []setting
		given   []bool // set by a file or a flag
		renames []rename
		file    string // absolute path of the configuration file; "" = none
	}
}

// rename is one rename-command line; an empty To removes the command.
type rename struct{ From, To string }

// NewConfig returns a configuration with every directive at its default.
func NewConfig() *Config {
	c := &Config{table: directives, byName: make(map[string]int, 2*len(directives))}
	c.mu.vals = make([]setting, len(c.table))
	c.mu.given = make([]bool, len(c.table))
	for i := range c.table {
		d := &c.table[i]
		for _, n := range []string{d.name, d.alias} {
			if n == "" {
				continue
			}
			if _, dup := c.byName[n]; dup {
				panic("server: two directives named " + n)
			}
			c.byName[n] = i
		}
		if d.kind == kindList {
			c.mu.vals[i] = setting{text: d.def}
			continue
		}
		v, err := d.value([]string{d.def}, d.def)
		if err != nil {
			panic("server: default of " + d.name + ": " + err.Error())
		}
		c.mu.vals[i] = v
	}
	return c
}

func (c *Config) index(name string) int {
	i, ok := c.byName[name]
	if !ok {
		panic("server: no directive " + name)
	}
	return i
}

// Text returns a value as CONFIG GET shows it. Like the other getters it panics if there is no such directive.
func (c *Config) Text(name string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.mu.vals[c.index(name)].text
}

// Int returns the value of a number, in the directive's unit (bytes for memory, seconds for times).
func (c *Config) Int(name string) int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.mu.vals[c.index(name)].num
}

// Bool returns the value of a yes/no directive.
func (c *Config) Bool(name string) bool { return c.Int(name) != 0 }

// Words returns the words of a list.
func (c *Config) Words(name string) []string { return strings.Fields(c.Text(name)) }

// File returns the path of the configuration file, "" if the server runs without one.
func (c *Config) File() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.mu.file
}

// Renames returns the rename-command lines, in order.
func (c *Config) Renames() []rename {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.mu.renames)
}

// Given tells whether a file or a flag has set the directive.
func (c *Config) Given(name string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.mu.given[c.index(name)]
}

// Inert returns the names of the directives that were given but mean nothing here, in the table's order. Values equal
// to what this server does anyway are left out: nobody has to be warned of those.
func (c *Config) Inert() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []string
	for i := range c.table {
		d := &c.table[i]
		if d.has(inert) && c.mu.given[i] && c.mu.vals[i].text != d.def {
			out = append(out, d.name)
		}
	}
	return out
}

var (
	errWrongArgCount = errors.New("wrong number of arguments")
	errNotYesNo      = errors.New("argument must be 'yes' or 'no'")
	errNotInt        = errors.New("argument couldn't be parsed into an integer")
	errNotMemory     = errors.New("argument must be a memory value")
	errNotPercent    = errors.New("argument must be a memory or percent value")
	errOver100       = errors.New("percentage argument must be less or equal to 100")
	errNotOctal      = errors.New("argument couldn't be parsed as an octal number")
	errNotEvents     = errors.New("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
	errNotTime       = errors.New("argument must be a duration such as 90s, 15m or 36h")
)

// value parses the words given for d. Errors are Redis's texts.
func (d *directive) value(words []string, old string) (setting, error) {
	if d.kind == kindList {
		text, err := d.parse(words, old)
		return setting{text: text}, err
	}
	if len(words) != 1 {
		return setting{}, errWrongArgCount
	}
	w := words[0]
	if d.parse != nil {
		var err error
		if w, err = d.parse(words, old); err != nil {
			return setting{}, err
		}
	}
	switch d.kind {
	case kindBool:
		switch {
		case strings.EqualFold(w, "yes"):
			return setting{"yes", 1}, nil
		case strings.EqualFold(w, "no"):
			return setting{"no", 0}, nil
		}
		return setting{}, errNotYesNo
	case kindEnum:
		for i, e := range d.enum {
			if strings.EqualFold(w, e) {
				return setting{e, int64(i)}, nil
			}
		}
		return setting{}, fmt.Errorf("argument(s) must be one of the following: %s", strings.Join(d.enum, ", "))
	case kindInt:
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return setting{}, errNotInt
		}
		return setting{strconv.FormatInt(n, 10), n}, d.bounds(n, "%d")
	case kindMemory:
		n, ok := parseMemory(w)
		if !ok {
			return setting{}, errNotMemory
		}
		return setting{strconv.FormatInt(n, 10), n}, d.bounds(n, "%d")
	case kindPercent:
		if p, isPercent := strings.CutSuffix(w, "%"); isPercent {
			n, err := strconv.ParseInt(p, 10, 64)
			if err != nil || n < 0 {
				return setting{}, errNotPercent
			}
			if n > 100 {
				return setting{}, errOver100
			}
			return setting{strconv.FormatInt(n, 10) + "%", -n}, nil
		}
		n, ok := parseMemory(w)
		if !ok {
			return setting{}, errNotPercent
		}
		return setting{strconv.FormatInt(n, 10), n}, d.bounds(n, "%d")
	case kindOctal:
		n, err := strconv.ParseInt(w, 8, 64)
		if err != nil {
			return setting{}, errNotOctal
		}
		return setting{strconv.FormatInt(n, 8), n}, d.bounds(n, "%o")
	case kindEvents:
		ev, ok := command.ParseEvents(w)
		if !ok {
			return setting{}, errNotEvents
		}
		return setting{ev.String(), int64(ev)}, nil
	case kindTime:
		n, ok := parseSeconds(w)
		if !ok {
			return setting{}, errNotTime
		}
		return setting{strconv.FormatInt(n, 10), n}, d.bounds(n, "%d")
	}
	return setting{text: w}, nil
}

func (d *directive) bounds(n int64, verb string) error {
	if d.min == 0 && d.max == 0 || n >= d.min && n <= d.max {
		return nil
	}
	return fmt.Errorf("argument must be between "+verb+" and "+verb+" inclusive", d.min, d.max)
}

// parseMemory parses an amount of bytes as Redis does: k, m and g are powers of ten, kb, mb and gb powers of two.
func parseMemory(s string) (int64, bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseUint(s[:i], 10, 64)
	if err != nil {
		return 0, false
	}
	var unit uint64
	switch strings.ToLower(s[i:]) {
	case "", "b":
		unit = 1
	case "k":
		unit = 1000
	case "kb":
		unit = 1 << 10
	case "m":
		unit = 1000 * 1000
	case "mb":
		unit = 1 << 20
	case "g":
		unit = 1000 * 1000 * 1000
	case "gb":
		unit = 1 << 30
	default:
		return 0, false
	}
	if n > math.MaxInt64/unit {
		return 0, false
	}
	return int64(n * unit), true
}

// parseSeconds parses a duration: plain seconds, or a number with s, m, h or d.
func parseSeconds(s string) (int64, bool) {
	unit := int64(1)
	if n := len(s); n > 1 {
		switch s[n-1] {
		case 's':
			s = s[:n-1]
		case 'm':
			s, unit = s[:n-1], 60
		case 'h':
			s, unit = s[:n-1], 3600
		case 'd':
			s, unit = s[:n-1], 86400
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit/1e9 {
		return 0, false
	}
	return n * unit, true
}

// formatMemory is the shortest exact form of an amount of bytes, as CONFIG REWRITE writes it.
func formatMemory(n int64) string {
	switch {
	case n > 0 && n%(1<<30) == 0:
		return strconv.FormatInt(n>>30, 10) + "gb"
	case n > 0 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "mb"
	case n > 0 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "kb"
	}
	return strconv.FormatInt(n, 10)
}

// load sets a directive before the server runs: bounds hold, hooks do not run.
func (c *Config) load(name string, words []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.byName[name]
	if !ok {
		return errors.New("Bad directive or wrong number of arguments")
	}
	d := &c.table[i]
	old := c.mu.vals[i].text
	v, err := d.value(words, old)
	if err != nil {
		return err
	}
	if d.name == "save" && c.mu.given[i] && old != "" && v.text != "" {
		v.text = old + " " + v.text // the first save line replaces the default, the others add to it
	}
	c.mu.vals[i], c.mu.given[i] = v, true
	return nil
}

// assign sets a directive to a text in canonical form, as the server itself changes it: CONFIG GET shows it and REWRITE keeps it.
func (c *Config) assign(name, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.vals[c.index(name)].text = text
}

// Pair is a directive's name and its value.
type Pair struct{ Name, Value string }

// Get returns the directives that any of the patterns matches, each once, in alphabetical order. match decides for
// patterns with glob characters; a plain name matches itself, hidden directives included.
func (c *Config) Get(patterns []string, match func(pattern, name string) bool) []Pair {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found := map[string]int{}
	for _, p := range patterns {
		if !strings.ContainsAny(p, "*?[") {
			if i, ok := c.byName[strings.ToLower(p)]; ok {
				found[p] = i
			}
			continue
		}
		for n, i := range c.byName {
			if !c.table[i].has(hidden) && match(p, n) {
				found[n] = i
			}
		}
	}
	out := make([]Pair, 0, len(found))
	for n, i := range found {
		out = append(out, Pair{n, c.mu.vals[i].text})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// ConfigSetError is a refused CONFIG SET. Its text is Redis's, without the leading "ERR ".
type ConfigSetError struct {
	Unknown string // the name that no directive has, or
	Name    string // the directive at fault
	Reason  string
}

func (e *ConfigSetError) Error() string {
	if e.Unknown != "" {
		return fmt.Sprintf("Unknown option or number of arguments for CONFIG SET - '%s'", e.Unknown)
	}
	return fmt.Sprintf("CONFIG SET failed (possibly related to argument '%s') - %s", e.Name, e.Reason)
}

// Set changes several directives of a running server: all or none. mayProtected says whether protected directives may
// be changed by this client. Hooks run after all values stand, each once; if one refuses, every value is put back.
// REQUIRES: s.configSet, so that an undo restores what it found.
func (c *Config) Set(s *Server, pairs []Pair, mayProtected bool) error {
	idx := make([]int, 0, len(pairs))
	var refused *ConfigSetError
	for _, p := range pairs {
		name := strings.ToLower(p.Name)
		i, ok := c.byName[name]
		if !ok {
			return &ConfigSetError{Unknown: p.Name}
		}
		d := &c.table[i]
		if refused != nil {
			continue
		}
		switch {
		case d.has(fixed):
			refused = &ConfigSetError{Name: p.Name, Reason: "can't set immutable config"}
		case d.has(protected) && !mayProtected:
			refused = &ConfigSetError{Name: p.Name, Reason: "can't set protected config"}
		case slices.Contains(idx, i):
			refused = &ConfigSetError{Name: p.Name, Reason: "duplicate parameter"}
		}
		idx = append(idx, i)
	}
	if refused != nil {
		return refused
	}

	// The values' own lock is free while hooks run: they read the new values.
	c.mu.Lock()
	old := slices.Clone(c.mu.vals)
	var changed []int
	for k, i := range idx {
		d := &c.table[i]
		words := []string{pairs[k].Value}
		if d.kind == kindList {
			words = strings.Split(pairs[k].Value, " ")
		}
		v, err := d.value(words, c.mu.vals[i].text)
		if err != nil {
			c.mu.vals = old
			c.mu.Unlock()
			return &ConfigSetError{Name: d.name, Reason: err.Error()}
		}
		if v != c.mu.vals[i] {
			c.mu.vals[i] = v
			changed = append(changed, i)
		}
	}
	c.mu.Unlock()
	for k, i := range changed {
		d := &c.table[i]
		if d.apply == nil {
			continue
		}
		if err := d.apply(s); err != nil {
			c.mu.Lock()
			c.mu.vals = old
			c.mu.Unlock()
			for _, j := range changed[:k] {
				if undo := c.table[j].apply; undo != nil {
					if uerr := undo(s); uerr != nil {
						s.log.Error("configuration not restored", "directive", c.table[j].name, "error", uerr)
					}
				}
			}
			return &ConfigSetError{Name: d.name, Reason: err.Error()}
		}
	}
	return nil
}

// live tells whether CONFIG SET of a directive may run under the executor lock.
func (c *Config) live(name string) bool {
	i, ok := c.byName[strings.ToLower(name)]
	return !ok || c.table[i].apply == nil || c.table[i].has(live)
}

// Reference is a row of the table for documentation.
type Reference struct {
	Name, Alias, Type, Default, Help string
	Fixed, Inert, Own                bool
}

// ConfigReference lists the directives in the table's order, for the reference page.
func ConfigReference() []Reference {
	kinds := [...]string{"yes|no", "integer", "memory", "memory or percent", "octal", "", "text", "duration", "list", "letters"}
	out := make([]Reference, len(directives))
	for i := range directives {
		d := &directives[i]
		t := kinds[d.kind]
		if d.kind == kindEnum {
			t = strings.Join(d.enum, "|")
		}
		out[i] = Reference{Name: d.name, Alias: d.alias, Type: t, Default: d.def, Help: d.help,
			Fixed: d.has(fixed), Inert: d.has(inert), Own: d.has(own)}
	}
	return out
}
