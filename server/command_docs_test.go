package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/command"
)

// ownWords are the fields of COMMAND DOCS whose texts are this project's. What else Redis says of a command is a fact.
var ownWords = map[string]bool{"summary": true, "complexity": true, "replaced_by": true}

// COMMAND DOCS of every row has the fields that redis-server prints, in its order and with its values, types of replies
// included; sentences are our own.
func TestCommandDocsLikeRedis(t *testing.T) {
	for _, proto := range []string{"2", "3"} {
		t.Run("resp="+proto, func(t *testing.T) {
			a, b := dial(t, oracle(t)), dial(t, holdfast(t).Addr())
			a.do("HELLO", proto)
			b.do("HELLO", proto)
			eachRow(command.NewTable(), func(spec *command.Spec) {
				if newer[spec.FullName] || spec.Group == "holdfast" {
					return
				}
				want, got := docsOf(t, a.do("COMMAND", "DOCS", spec.FullName)), docsOf(t, b.do("COMMAND", "DOCS", spec.FullName))
				if !equalNodes(want, got) {
					t.Errorf("%s\n  redis:    %v\n  holdfast: %v", spec.FullName, want, got)
				}
			})
		})
	}
}

// docsOf parses what COMMAND DOCS says of one command, without the words of its sentences, without subcommands, which are
// compared by themselves, and without what Redis 7.0 does not have. The type of each reply is part of its text.
func docsOf(t *testing.T, s string) node {
	n, rest := parseTyped(t, s)
	require.Empty(t, rest)
	require.Len(t, n.items, 2)
	doc := n.items[1]
	for i := 0; i+1 < len(doc.items); i += 2 {
		switch name := strings.TrimPrefix(doc.items[i].text, "$"); {
		case ownWords[name]:
			require.NotEmpty(t, doc.items[i+1].text)
			doc.items[i+1] = node{text: "(words)"}
		case name == "history":
			for _, h := range doc.items[i+1].items {
				require.NotEmpty(t, h.items[1].text)
				h.items[1] = node{text: "(words)"}
			}
			doc.items[i+1] = doc.items[i+1].sorted()
		case name == "subcommands":
			doc.items[i+1] = node{text: "(subcommands)"}
		case name == "arguments":
			doc.items[i+1] = withoutNewer(doc.items[i+1])
		}
	}
	return n
}

// withoutNewer drops the arguments that came after Redis 7.0 and orders flags.
func withoutNewer(args node) node {
	args.items = slices.DeleteFunc(slices.Clone(args.items), func(arg node) bool {
		for i := 0; i+1 < len(arg.items); i += 2 {
			if v := arg.items[i+1].text; arg.items[i].text == "$since" && v >= "$7.2" {
				return true
			}
		}
		return false
	})
	args.text = args.text[:1]
	for k := range args.items {
		arg := args.items[k]
		for i := 0; i+1 < len(arg.items); i += 2 {
			switch arg.items[i].text {
			case "$flags":
				arg.items[i+1] = arg.items[i+1].sorted()
			case "$arguments":
				arg.items[i+1] = withoutNewer(arg.items[i+1])
			}
		}
	}
	return args
}

// parseTyped parses a reply of either protocol; the first character of each text is the type.
func parseTyped(t *testing.T, s string) (n node, rest string) {
	line, rest, ok := strings.Cut(s, "\r\n")
	require.True(t, ok)
	switch line[0] {
	case '$':
		l := atoi(t, line[1:])
		return node{text: "$" + rest[:l]}, rest[l+2:]
	case '*', '~', '%':
		l := atoi(t, line[1:])
		n.text = line
		if line[0] == '%' {
			l *= 2
		}
		for range l {
			var item node
			item, rest = parseTyped(t, rest)
			n.items = append(n.items, item)
		}
		return n, rest
	}
	return node{text: line}, rest
}

// What stands in none of Redis's documentation is written in the same notation, and nothing is without it that takes an
// argument.
func TestCommandsOfOurOwnHaveSyntax(t *testing.T) {
	eachRow(command.NewTable(), func(spec *command.Spec) {
		own := newer[spec.FullName] || spec.Group == "holdfast"
		words := 1 + strings.Count(spec.FullName, "|")
		if own && spec.Arity != words && len(spec.Subcommands) == 0 {
			require.NotEmpty(t, spec.SyntaxArgs, spec.FullName)
		}
	})
}
