package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/holdfast-db/holdfast/"

// layers are the packages from the bottom up. A package may import those of lower layers only. Commands, the test rig and
// the benchmarks stand above all and are imported by nobody.
var layers = [][]string{
	{"wal", "snapshot/rdb", "server/reply", "server/pubsub"},
	{"snapshot/digest", "server/keyspace"},
	{"snapshot", "replication", "server/command", "server/verify"},
	{"server/engine"},
	{"server"},
}

// homes say where code that a package may not import, or that may not import a library, belongs.
var homes = map[string]string{
	"wal":            "wal knows bytes and offsets; what needs meaning belongs to server/engine",
	"snapshot":       "snapshot knows rows; what needs commands belongs to server/engine",
	"snapshot/rdb":   "snapshot/rdb is a codec; what needs objects belongs to server/keyspace",
	"server/reply":   "server/reply is a leaf; what needs the keyspace belongs to server/command",
	"server/pubsub":  "server/pubsub is a leaf; what needs sessions or the wire belongs to server",
	"server/command": "handlers are pure; what needs a disk, a clock or a log belongs to server/engine, what needs a connection to server",
	"server/verify":  "server/verify is a client; what needs the data of this process belongs to server/engine",
	"server/engine":  "the engine has no network; what needs a session belongs to server",
	"server":         "what needs several servers belongs to server/servertest, bench or cmd",
}

// libraries say who may import a library, by prefix of its path; the longest prefix decides.
var libraries = map[string][]string{
	"github.com/cockroachdb/pebble/v2":     {"wal", "snapshot"},
	"github.com/cockroachdb/pebble/v2/vfs": {"wal", "snapshot", "server/engine", "server/servertest"},
	"github.com/tidwall/redcon":            {"server", "server/reply", "bench"},
}

// topLevel is what the repository's first level may contain, dot-files aside.
var topLevel = []string{"cmd", "server", "wal", "snapshot", "replication", "bench", "docs",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}

func root(t *testing.T) string {
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		require.NotEqual(t, dir, up, "no go.mod above the test")
		dir = up
	}
}

// eachFile calls fn with each file of the repository, by its path from the root with slashes.
func eachFile(t *testing.T, fn func(path, rel string)) {
	top := root(t)
	require.NoError(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		fn(path, filepath.ToSlash(rel))
		return nil
	}))
}

func layerOf(pkg string) int {
	for i, l := range layers {
		if slices.Contains(l, pkg) {
			return i
		}
	}
	return len(layers)
}

func TestImportsPointDown(t *testing.T) {
	eachFile(t, func(path, rel string) {
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return
		}
		pkg := filepath.ToSlash(filepath.Dir(rel))
		for _, imp := range f.Imports {
			name := strings.Trim(imp.Path.Value, `"`)
			if own, ok := strings.CutPrefix(name, module); ok {
				from, to := layerOf(pkg), layerOf(own)
				if from <= to && (from < len(layers) || strings.HasPrefix(own, "cmd/") && !strings.HasPrefix(own, "cmd/internal/")) {
					t.Errorf("%s imports %s, which is not below it. %s", rel, own, homes[pkg])
				}
				continue
			}
			best := ""
			for lib := range libraries {
				if (name == lib || strings.HasPrefix(name, lib+"/")) && len(lib) > len(best) {
					best = lib
				}
			}
			if best != "" && !slices.Contains(libraries[best], pkg) {
				t.Errorf("%s imports %s, which only %s may: go through them. %s", rel, name, strings.Join(libraries[best], ", "), homes[pkg])
			}
		}
	})
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	require.NoError(t, err)
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || name == "holdfast" && !e.IsDir() || name == "holdfast-data" {
			continue // dot-files; what make build and a first start leave, which git ignores
		}
		if !slices.Contains(topLevel, name) {
			t.Errorf("%s does not belong to the top level: that is exactly %s", name, strings.Join(topLevel, ", "))
		}
	}
}

// vague names say nothing about what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared"}

func TestPackageNames(t *testing.T) {
	eachFile(t, func(path, rel string) {
		if !strings.HasSuffix(rel, ".go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return
		}
		if name := strings.TrimSuffix(f.Name.Name, "_test"); slices.Contains(vague, name) {
			t.Errorf("%s: a package named %s says nothing about what is inside", rel, name)
		}
	})
}

// machinePath finds paths of somebody's machine. The parts are apart so that this file does not find itself.
var machinePath = regexp.MustCompile("(^|[\\s\"'`(=])/(wo" + "rk|ro" + "ot|ho" + "me|Us" + "ers|tmp/hf)(/|\\b)")

func TestNoMachinePaths(t *testing.T) {
	eachFile(t, func(path, rel string) {
		switch filepath.Ext(rel) {
		case ".go", ".md", ".sh", ".txt", ".conf", "":
		default:
			return
		}
		if fi, err := os.Stat(path); err != nil || fi.Size() > 1<<20 {
			return // binaries
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return
		}
		for i, line := range strings.Split(string(b), "\n") {
			if machinePath.MatchString(line) {
				t.Errorf("%s:%d names a path of one machine: %s", rel, i+1, strings.TrimSpace(line))
			}
		}
	})
}

// symbols gathers what the packages declare, as "package.Name" and "package.Type.Member".
func symbols(t *testing.T) (names, packages map[string]bool) {
	names, packages = map[string]bool{}, map[string]bool{}
	eachFile(t, func(path, rel string) {
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return
		}
		pkg := f.Name.Name
		packages[pkg] = true
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					name = receiver(d.Recv.List[0].Type) + "." + name
				}
				names[pkg+"."+name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					addSpec(names, pkg, s)
				}
			}
		}
	})
	return names, packages
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

func addSpec(names map[string]bool, pkg string, s ast.Spec) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		for _, n := range s.Names {
			names[pkg+"."+n.Name] = true
		}
	case *ast.TypeSpec:
		names[pkg+"."+s.Name.Name] = true
		var members *ast.FieldList
		switch x := s.Type.(type) {
		case *ast.StructType:
			members = x.Fields
		case *ast.InterfaceType:
			members = x.Methods
		default:
			return
		}
		for _, f := range members.List {
			for _, n := range f.Names {
				names[pkg+"."+s.Name.Name+"."+n.Name] = true
			}
		}
	}
}

var symbolInDocs = regexp.MustCompile("`([a-z]+)\\.([A-Z][A-Za-z0-9]*(?:\\.[A-Za-z][A-Za-z0-9]*)?)`")

func TestDocumentedSymbolsExist(t *testing.T) {
	names, packages := symbols(t)
	checked := 0
	for _, doc := range []string{"docs/ARCHITECTURE.md"} {
		b, err := os.ReadFile(filepath.Join(root(t), doc))
		require.NoError(t, err)
		for i, line := range strings.Split(string(b), "\n") {
			for _, m := range symbolInDocs.FindAllStringSubmatch(line, -1) {
				if !packages[m[1]] {
					continue // another project's
				}
				checked++
				if !names[m[1]+"."+m[2]] {
					t.Errorf("%s:%d names %s.%s, which does not exist", doc, i+1, m[1], m[2])
				}
			}
		}
	}
	require.NotZero(t, checked, "the documentation names no symbol: the pattern of this test is wrong")
}
