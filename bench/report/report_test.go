package report

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var keepPage = flag.String("page", "", "`directory` in which the page of the sample run is left, to be looked at")

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "results")
	if *keepPage != "" {
		dir = *keepPage
	}
	require.NoError(t, Write(dir, sampleRun(3, 1.2), sampleRun(2, 1.05)))
	for _, name := range []string{ResultsFile, BenchstatFile, TablesFile, PageFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NotEmpty(t, b)
		require.NotContains(t, strings.ToLower(string(b)), "nan", name)
	}
}
