package servertest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rule says what must agree of two replies.
type Rule struct {
	kind  ruleKind
	words []string
	near  int64
}

type ruleKind uint8

const (
	ruleEqual     ruleKind = iota // the same bytes
	ruleMultiset                  // the same elements in any order
	rulePairs                     // the same pairs of elements in any order
	ruleScan                      // [cursor, elements]: elements as a multiset
	ruleScanPairs                 // [cursor, elements]: elements as pairs
	ruleKindOnly                  // the same first byte
	ruleEncoding                  // OBJECT ENCODING, but all of a string's are the same
	ruleLength                    // the same first line: type and length
	ruleNear                      // integers that differ by little
	ruleOf                        // both are one of some words
	ruleEachOf                    // each element of both is one of some words
)

// unordered lists the commands whose replies have no order that Redis promises: it is that of a hash table, and the two
// servers hash differently. HashPairs: in RESP2 keys and values alternate in a flat array.
var unordered = map[string]ruleKind{
	"smembers": ruleMultiset, "sinter": ruleMultiset, "sunion": ruleMultiset, "sdiff": ruleMultiset,
	"keys": ruleMultiset, "hkeys": ruleMultiset, "hvals": ruleMultiset, "hgetall": rulePairs,
	"srandmember": ruleMultiset, "spop": ruleMultiset, "hrandfield": ruleMultiset, "zrandmember": ruleMultiset,
	"scan": ruleScan, "sscan": ruleScan, "hscan": ruleScanPairs, "zscan": ruleScanPairs,
	"config": rulePairs,
}

// RuleOf returns the rule for the reply of a command: most are compared as bytes.
func RuleOf(args []string) Rule {
	name := strings.ToLower(args[0])
	r := Rule{kind: unordered[name]}
	if r.kind == ruleMultiset && (name == "hrandfield" || name == "zrandmember") && len(args) == 4 {
		r.kind = rulePairs
	}
	return r
}

// ParseRule reads the rule of a "#! random" line.
func ParseRule(text string) (Rule, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Rule{}, fmt.Errorf("servertest: a rule without a name")
	}
	name, words := words[0], words[1:]
	switch {
	case name == "kind" && len(words) == 0:
		return Rule{kind: ruleKindOnly}, nil
	case name == "length" && len(words) == 0:
		return Rule{kind: ruleLength}, nil
	case name == "near" && len(words) == 1:
		n, err := strconv.ParseInt(words[0], 10, 64)
		return Rule{kind: ruleNear, near: n}, err
	case name == "of" && len(words) > 0:
		return Rule{kind: ruleOf, words: words}, nil
	case name == "each-of" && len(words) > 0:
		return Rule{kind: ruleEachOf, words: words}, nil
	}
	return Rule{}, fmt.Errorf("servertest: unknown rule %q", text)
}

// Agree tells whether two replies agree by the rule. Errors must always be equal.
func (r Rule) Agree(a, b []byte) bool {
	if bytes.Equal(a, b) && r.kind < ruleOf {
		return true
	}
	if len(a) == 0 || len(b) == 0 || a[0] == '-' || b[0] == '-' {
		return bytes.Equal(a, b)
	}
	switch r.kind {
	case ruleEqual:
		return false
	case ruleKindOnly:
		return a[0] == b[0]
	case ruleEncoding:
		// Redis's strings remember commands that changed nothing or that left a number: a SETBIT of a bit that is set makes
		// the string raw, INCRBYFLOAT leaves an integer as embstr; both until it is loaded from a file. Here what is read only
		// changes nothing, and a number is int at once. Scripts compare the encodings of strings exactly.
		text := func(p []byte) bool { return slices.Contains([]string{"int", "embstr", "raw"}, bulkText(p)) }
		return text(a) && text(b)
	case ruleLength:
		head := func(p []byte) []byte { h, _, _ := bytes.Cut(p, []byte("\r\n")); return h }
		return bytes.Equal(head(a), head(b))
	case ruleNear:
		x, okA := integer(a)
		y, okB := integer(b)
		return okA && okB && x-y <= r.near && y-x <= r.near
	case ruleOf:
		return r.allowed(a) && r.allowed(b)
	case ruleEachOf:
		if len(a) == 0 || a[0] != b[0] {
			return false
		}
		ea, eb := elements(a), elements(b)
		if len(ea) != len(eb) {
			return false
		}
		for _, e := range append(ea, eb...) {
			if !r.allowed(e) {
				return false
			}
		}
		return true
	}
	return bytes.Equal(r.canonical(a), r.canonical(b))
}

// allowed tells whether a bulk, a simple string or an integer is one of the rule's words.
func (r Rule) allowed(p []byte) bool {
	text := p[1 : len(p)-2]
	if p[0] == '$' {
		if i := bytes.Index(text, []byte("\r\n")); i >= 0 {
			text = text[i+2:]
		}
	}
	return slices.Contains(r.words, string(text))
}

// canonical brings the elements of a reply into an order of their bytes.
func (r Rule) canonical(p []byte) []byte {
	head, _, _ := bytes.Cut(p, []byte("\r\n"))
	elems := elements(p)
	switch r.kind {
	case ruleScan, ruleScanPairs:
		if len(elems) != 2 {
			return p
		}
		inner := Rule{kind: ruleMultiset}
		if r.kind == ruleScanPairs {
			inner.kind = rulePairs
		}
		return slices.Concat(head, []byte("\r\n"), elems[0], inner.canonical(elems[1]))
	case rulePairs:
		// RESP3's maps and nested pairs are elements already: a map's key and value follow each other as in RESP2.
		if len(elems)%2 == 0 && !nested(elems) {
			pairs := make([][]byte, 0, len(elems)/2)
			for i := 0; i < len(elems); i += 2 {
				pairs = append(pairs, slices.Concat(elems[i], elems[i+1]))
			}
			elems = pairs
		}
	}
	slices.SortFunc(elems, bytes.Compare)
	return slices.Concat(head, []byte("\r\n"), bytes.Join(elems, nil))
}

func nested(elems [][]byte) bool { return len(elems) > 0 && elems[0][0] == '*' }

func integer(p []byte) (int64, bool) {
	if p[0] != ':' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(p[1:len(p)-2]), 10, 64)
	return n, err == nil
}

// elements cuts an aggregate reply into its elements; a map yields keys and values in turn. Of anything else it is nil.
func elements(p []byte) (out [][]byte) {
	if len(p) == 0 || !bytes.ContainsRune([]byte("*~>%"), rune(p[0])) {
		return nil
	}
	for rest := p[lineEnd(p):]; len(rest) > 0; {
		n := replyLen(rest)
		out = append(out, rest[:n])
		rest = rest[n:]
	}
	return out
}

func lineEnd(p []byte) int { return bytes.IndexByte(p, '\n') + 1 }

// replyLen is the length in bytes of the first whole reply of p. REQUIRES: p came from Client, so it is well formed.
func replyLen(p []byte) int {
	end := lineEnd(p)
	n, err := strconv.Atoi(string(p[1 : end-2]))
	if err != nil || n < 0 {
		return end
	}
	switch p[0] {
	case '$', '=', '!':
		return end + n + 2
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return end
	}
	for range n {
		end += replyLen(p[end:])
	}
	return end
}

// bulkText returns the text of a bulk reply, "" of any other.
func bulkText(p []byte) string {
	if p[0] != '$' || p[1] == '-' {
		return ""
	}
	return string(p[lineEnd(p) : len(p)-2])
}
