package command

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseSyntax(t *testing.T) {
	for s, want := range map[string][]Arg{
		"":                {},
		"key":             {{Name: "key", Type: ArgKey}},
		"key#2...":        {{Name: "key", Type: ArgKey, KeySpec: 2, Multiple: true}},
		"source:key a:b":  {{Name: "source", Type: ArgKey}, {Name: "a:b", KeySpec: NoKeySpec, Type: ArgString}},
		"BY p:pattern#1":  {{Name: "p", Type: ArgPattern, KeySpec: 1, Token: "BY"}},
		"GET value":       {{Name: "value", KeySpec: NoKeySpec, Type: ArgString, Token: "GET"}},
		"[GET@6.2.0]":     {{Name: "get", KeySpec: NoKeySpec, Type: ArgToken, Token: "GET", Since: "6.2.0", Optional: true}},
		"change=CH old!2": {{Name: "change", KeySpec: NoKeySpec, Type: ArgToken, Token: "CH"}, {Name: "old", KeySpec: NoKeySpec, Type: ArgString, DeprecatedSince: "2"}},
		"[GET pattern:pattern...+]": {{Name: "pattern", KeySpec: NoKeySpec, Type: ArgPattern, Token: "GET", Multiple: true, MultipleToken: true,
			Optional: true}},
		"how:(NX|EX s:int)": {{Name: "how", KeySpec: NoKeySpec, Type: ArgOneOf, Args: []Arg{{Name: "nx", KeySpec: NoKeySpec, Type: ArgToken, Token: "NX"},
			{Name: "s", KeySpec: NoKeySpec, Type: ArgInteger, Token: "EX"}}}},
		"LIMIT both:{a:int b:double}": {{Name: "both", KeySpec: NoKeySpec, Type: ArgBlock, Token: "LIMIT", Args: []Arg{{Name: "a", KeySpec: NoKeySpec, Type: ArgInteger},
			{Name: "b", KeySpec: NoKeySpec, Type: ArgDouble}}}},
	} {
		got, err := ParseSyntax(s)
		require.NoError(t, err, s)
		require.ElementsMatch(t, want, got, s)
	}
	for _, s := range []string{"[key", "a:(b|c", "a:{b", "key#x", "key)", "(a|b)", "a  b", "EX "} {
		_, err := ParseSyntax(s)
		require.Error(t, err, s)
	}
}
