package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The reference page is generated from the table of directives: HOLDFAST_UPDATE=1 writes it anew.
func TestReferencePage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Configuration\n\nDirectives are given in a file (`holdfast serve FILE`), as flags (`--port 6380`) and, but for those marked *fixed*,\n" +
		"with CONFIG SET. Files have the format of redis.conf. This page is generated from the table that the server uses.\n")
	section := func(title string, keep func(*directive) bool) {
		fmt.Fprintf(&b, "\n## %s\n\n| directive | type | default | |\n|---|---|---|---|\n", title)
		for i := range directives {
			d := &directives[i]
			if !keep(d) || d.has(hidden) {
				continue
			}
			ref := ConfigReference()[i]
			help := ref.Help
			if ref.Fixed {
				help += " *fixed*"
			}
			name := "`" + ref.Name + "`"
			if ref.Alias != "" {
				name += " (`" + ref.Alias + "`)"
			}
			fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", name, strings.ReplaceAll(ref.Type, "|", " \\| "), ref.Default, help)
		}
	}
	section("Holdfast's own", func(d *directive) bool { return d.has(own) })
	section("Redis's, with their meaning here", func(d *directive) bool { return !d.has(own | inert) })
	section("Redis's, without meaning here", func(d *directive) bool { return d.has(inert) })

	page := filepath.Join("..", "docs", "CONFIGURATION.md")
	if os.Getenv("HOLDFAST_UPDATE") != "" {
		require.NoError(t, os.WriteFile(page, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "run the test with HOLDFAST_UPDATE=1")
}
