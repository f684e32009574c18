package servertest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// scriptRoot holds the golden scripts, a folder for each family.
const scriptRoot = "../command/testdata"

// TestDifferential runs every golden script against redis-server and against this server, in both protocols, and a second
// time with everything on disk after each command.
func TestDifferential(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(scriptRoot, "*", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	redis := Redis(t)
	for _, cold := range []bool{false, true} {
		node := Holdfast(t)
		for _, path := range paths {
			rel, err := filepath.Rel(scriptRoot, path)
			require.NoError(t, err)
			s, err := readScript(path)
			require.NoError(t, err)
			for proto := 2; proto <= 3; proto++ {
				if s.proto != 0 && s.proto != proto {
					continue
				}
				name := fmt.Sprintf("script=%s/resp=%d/cold=%v", strings.ReplaceAll(strings.TrimSuffix(rel, ".txt"), "/", "-"), proto, cold)
				t.Run(name, func(t *testing.T) {
					n := node
					if s.hasVerbs() {
						n = Holdfast(t) // it may restart, and its clock may jump
					}
					runScript(t, s, proto, redis, n, cold)
				})
			}
		}
	}
}
