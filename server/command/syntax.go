package command

import (
	"fmt"
	"strconv"
	"strings"
)

// Syntax notation. Spec.Syntax says what arguments a command takes, as COMMAND DOCS reports them: words apart by spaces,
//
//	name               an argument: a string. A plain "key" is a key, the one of the first key specification
//	name:type          string, int, double, key, pattern, time (Unix)
//	name:key#1         a key of the second key specification; key#1 where the name is "key"; also behind a pattern of keys
//	TOKEN name         an argument behind a word that announces it
//	NX                 a word alone; its name is the word in lower case
//	name=WORD          the same with a name of its own, and where another argument follows without a bracket
//	name:(a|b)         one of these
//	name:{a b}         all of these, in this order
//	TOKEN name:{a b}   the same behind a word
//	[ … ]              optional
//
// and behind each of them, in this order: "..." it may be repeated, "+" so that its token is repeated, too,
// "@1.2.3" the version that it came with, "!1.2.3" the version from which on it should not be used.

// An ArgType is a type of argument, by Redis's name.
type ArgType string

// The types of arguments.
const (
	ArgString  ArgType = "string"
	ArgInteger ArgType = "integer"
	ArgDouble  ArgType = "double"
	ArgKey     ArgType = "key"
	ArgPattern ArgType = "pattern"
	ArgTime    ArgType = "unix-time"
	ArgToken   ArgType = "pure-token"
	ArgOneOf   ArgType = "oneof"
	ArgBlock   ArgType = "block"
)

// argTypes are the types that a name may carry.
var argTypes = map[string]ArgType{"string": ArgString, "int": ArgInteger, "double": ArgDouble, "key": ArgKey,
	"pattern": ArgPattern, "time": ArgTime}

// NoKeySpec is the KeySpec of what is not a key.
const NoKeySpec = -1

// An Arg describes one argument of a command.
type Arg struct {
	Name            string
	Type            ArgType
	KeySpec         int    // which of the key specifications finds it; NoKeySpec = it is no key
	Token           string // "" = none
	Since           string // "" = as old as the command
	DeprecatedSince string // "" = not deprecated
	Optional        bool
	Multiple        bool
	MultipleToken   bool
	Args            []Arg // of ArgOneOf and ArgBlock
}

// Flags returns the flags of an argument as COMMAND DOCS prints them.
func (a *Arg) Flags() []string {
	var out []string
	if a.Optional {
		out = append(out, "optional")
	}
	if a.Multiple {
		out = append(out, "multiple")
	}
	if a.MultipleToken {
		out = append(out, "multiple_token")
	}
	return out
}

// ParseSyntax reads the notation. An error names the place in it.
func ParseSyntax(s string) ([]Arg, error) {
	p := syntaxParser{s: s}
	args, err := p.list(' ')
	if err == nil && p.pos < len(s) {
		err = p.wrong("end")
	}
	return args, err
}

// mustSyntax is ParseSyntax of what stands in the table.
func mustSyntax(name, s string) []Arg {
	args, err := ParseSyntax(s)
	if err != nil {
		panic(fmt.Sprintf("command: syntax of %s: %v", name, err))
	}
	return args
}

type syntaxParser struct {
	s   string
	pos int
}

// wrong says what is missing where.
func (p *syntaxParser) wrong(want string) error {
	return fmt.Errorf("%q at %d: expected %s", p.s, p.pos, want)
}

// eat takes a prefix of what is left, if it is there.
func (p *syntaxParser) eat(prefix string) bool {
	if !strings.HasPrefix(p.s[p.pos:], prefix) {
		return false
	}
	p.pos += len(prefix)
	return true
}

// word takes what stands before the next character of the notation.
func (p *syntaxParser) word() string {
	rest := p.s[p.pos:]
	n := strings.IndexAny(rest, " |()[]{}@!+#=")
	if n < 0 {
		n = len(rest)
	}
	if dots := strings.Index(rest[:n], "..."); dots >= 0 {
		n = dots
	}
	p.pos += n
	return rest[:n]
}

// list takes arguments with a separator between them.
func (p *syntaxParser) list(sep byte) ([]Arg, error) {
	var args []Arg
	for p.pos < len(p.s) {
		a, err := p.arg()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
		if !p.eat(string(sep)) {
			break
		}
	}
	return args, nil
}

func (p *syntaxParser) arg() (a Arg, err error) {
	optional := p.eat("[")
	if a, err = p.body(); err != nil {
		return a, err
	}
	a.Optional = optional
	a.Multiple = p.eat("...")
	a.MultipleToken = p.eat("+")
	if p.eat("@") {
		a.Since = p.word()
	}
	if p.eat("!") {
		a.DeprecatedSince = p.word()
	}
	if optional && !p.eat("]") {
		return a, p.wrong("]")
	}
	return a, nil
}

func (p *syntaxParser) body() (a Arg, err error) {
	w := p.word()
	if w == "" {
		return a, p.wrong("a name")
	}
	if p.eat("=") {
		return Arg{Name: w, Type: ArgToken, Token: p.word(), KeySpec: NoKeySpec}, nil
	}
	if isToken(w) {
		if !p.eat(" ") {
			return Arg{Name: strings.ToLower(w), Type: ArgToken, Token: w, KeySpec: NoKeySpec}, nil
		}
		a.Token = w
		if w = p.word(); w == "" {
			return a, p.wrong("a name")
		}
	}
	return a, p.typed(&a, w)
}

// typed fills in name and type of an argument whose word has been taken.
func (p *syntaxParser) typed(a *Arg, w string) (err error) {
	a.KeySpec = NoKeySpec
	name, kind := w, ""
	if i := strings.LastIndexByte(w, ':'); i >= 0 {
		name, kind = w[:i], w[i+1:]
	}
	switch {
	case kind == "" && p.eat("("):
		a.Name, a.Type = name, ArgOneOf
		if a.Args, err = p.list('|'); err == nil && !p.eat(")") {
			err = p.wrong(")")
		}
		return err
	case kind == "" && p.eat("{"):
		a.Name, a.Type = name, ArgBlock
		if a.Args, err = p.list(' '); err == nil && !p.eat("}") {
			err = p.wrong("}")
		}
		return err
	}
	if t, ok := argTypes[kind]; ok {
		a.Name, a.Type = name, t
	} else if w == "key" {
		a.Name, a.Type = w, ArgKey
	} else {
		a.Name, a.Type = w, ArgString
	}
	if a.Type == ArgKey {
		a.KeySpec = 0
	}
	if p.eat("#") {
		if a.KeySpec, err = strconv.Atoi(p.word()); err != nil {
			return p.wrong("a number")
		}
	}
	return nil
}

// isToken tells whether a word is written in capitals.
func isToken(w string) bool {
	return w != "" && w[0] >= 'A' && w[0] <= 'Z' && w == strings.ToUpper(w)
}
