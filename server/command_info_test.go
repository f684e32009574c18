package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/command"
)

// newer are rows that Redis 7.0.15 does not have: they came with 7.2, 7.4 and 8.0.
var newer = map[string]bool{"client|no-touch": true, "client|setinfo": true, "waitaof": true,
	"hexpire": true, "hpexpire": true, "hexpireat": true, "hpexpireat": true, "httl": true, "hpttl": true, "hexpiretime": true,
	"hpexpiretime": true, "hpersist": true, "hgetdel": true, "hgetex": true, "hsetex": true}

// longer are rows with an option of 7.2, so that they take more arguments.
var longer = map[string]bool{"zrank": true, "zrevrank": true}

// Each row of the command table is run by exactly one handler.
func TestEveryCommandHasOneHandler(t *testing.T) {
	table := command.NewTable()
	require.NotPanics(t, func() { bindHandlers(table, sessionHandlers()) })
	eachRow(table, func(spec *command.Spec) {
		require.NotEmpty(t, spec.Summary, spec.FullName)
		require.NotEmpty(t, spec.Since, spec.FullName)
		require.NotEmpty(t, spec.Group, spec.FullName)
	})
	for name, entries := range helpTexts {
		if spec := table.Lookup([]byte(name)); spec == nil {
			t.Errorf("help for %s, which does not exist", name)
		} else if name != "debug" {
			for i := range spec.Subcommands {
				sub := strings.ToUpper(spec.Subcommands[i].Name)
				found := sub == "HELP" || slices.ContainsFunc(entries, func(e [2]string) bool { return strings.Fields(e[0])[0] == sub })
				require.True(t, found, "HELP of %s does not mention %s", name, sub)
			}
		}
	}
}

// node is a parsed RESP2 reply.
type node struct {
	text  string
	items []node
	null  bool
}

func parseReply(t *testing.T, s string) (n node, rest string) {
	line, rest, ok := strings.Cut(s, "\r\n")
	require.True(t, ok)
	switch line[0] {
	case '$':
		l := atoi(t, line[1:])
		if l < 0 {
			return node{null: true}, rest
		}
		return node{text: rest[:l]}, rest[l+2:]
	case '*':
		l := atoi(t, line[1:])
		if l < 0 {
			return node{null: true}, rest
		}
		for range l {
			var item node
			item, rest = parseReply(t, rest)
			n.items = append(n.items, item)
		}
		return n, rest
	}
	return node{text: line[1:]}, rest
}

func atoi(t *testing.T, s string) int {
	n, ok := command.ParseInt([]byte(s))
	require.True(t, ok, s)
	return int(n)
}

// sorted orders what Redis prints as sets.
func (n node) sorted() node {
	n.items = slices.Clone(n.items)
	slices.SortFunc(n.items, func(a, b node) int { return strings.Compare(a.key(), b.key()) })
	return n
}

func (n node) key() string {
	if len(n.items) > 0 {
		return n.items[0].key()
	}
	return n.text
}

// COMMAND INFO of every row is what redis-server prints, but for the order within sets and for subcommands that are not
// there.
func TestCommandInfoLikeRedis(t *testing.T) {
	a, b := dial(t, oracle(t)), dial(t, holdfast(t).Addr())
	eachRow(command.NewTable(), func(spec *command.Spec) {
		if newer[spec.FullName] || spec.Group == "holdfast" {
			return
		}
		want, _ := parseReply(t, a.do("COMMAND", "INFO", spec.FullName))
		got, _ := parseReply(t, b.do("COMMAND", "INFO", spec.FullName))
		want, got = want.items[0], got.items[0]
		if want.null {
			t.Errorf("%s: redis-server has no such command", spec.FullName)
			return
		}
		require.Len(t, got.items, 10, spec.FullName)
		for i, what := range []string{"name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications"} {
			w, g := want.items[i], got.items[i]
			if what == "arity" && longer[spec.FullName] {
				continue
			}
			if what == "flags" || what == "categories" {
				w, g = w.sorted(), g.sorted()
			}
			if what == "key specifications" {
				w, g = sortKeySpecs(w), sortKeySpecs(g)
			}
			if !equalNodes(w, g) {
				t.Errorf("%s: %s\n  redis:    %v\n  holdfast: %v", spec.FullName, what, w, g)
			}
		}
	})
}

// sortKeySpecs orders the flags within each specification.
func sortKeySpecs(n node) node {
	n.items = slices.Clone(n.items)
	for i := range n.items {
		n.items[i].items = slices.Clone(n.items[i].items)
		for k := 0; k+1 < len(n.items[i].items); k += 2 {
			if n.items[i].items[k].text == "flags" {
				n.items[i].items[k+1] = n.items[i].items[k+1].sorted()
			}
		}
	}
	return n
}

func equalNodes(a, b node) bool {
	return a.text == b.text && a.null == b.null && slices.EqualFunc(a.items, b.items, equalNodes)
}
