package wal

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// damagedLog makes a log of n synced appends of size bytes, cuts the power and returns what is left.
func damagedLog(t *testing.T, n, size int) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	l := open(t, mem, Options{})
	require.NoError(t, l.BeginID(idA))
	for i := range n {
		l.Append(set(i, size), 0, 0)
		require.NoError(t, l.Sync(context.Background()))
	}
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, l.Close())
	return left
}

// newestCommitLog returns the path of the commit log's newest file and its contents.
func newestCommitLog(t *testing.T, fs vfs.FS) (path string, data []byte) {
	t.Helper()
	dir := fs.PathJoin("wal", commitLogDir)
	files, err := scanCommitLog(fs, dir, true)
	require.NoError(t, err)
	require.Len(t, files, 1)
	path = fs.PathJoin(dir, files[0].name)
	f, err := fs.Open(path)
	require.NoError(t, err)
	data, err = io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return path, data
}

func rewrite(t *testing.T, fs vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write([]byte(string(data))) // under the race detector Pebble's file system in memory spoils what it was given
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// A flipped bit anywhere in what was durable is found, whether the file that has it is the newest or not, by those who read and
// those who would write; it does not go as the end that a crash left. Nothing is changed by that: it is found again.
func TestDamagedCommitLogIsRefused(t *testing.T) {
	// Batches of less than a block of the commit log, and of several. (Few: Pebble tries for a second which bit it may be.)
	for size, parts := range map[int]int{100: 10, 5_000: 5, 50_000: 2} {
		const appends = 12
		fs := damagedLog(t, appends, size)
		path, data := newestCommitLog(t, fs)
		used := len(strings.TrimRight(string(data), "\x00"))
		end := appends*len(set(0, size)) + 2 // one more byte in the keys of two digits
		for part := range parts {
			at := part * (used - 3*(size+100)) / parts // the last batch has none behind it that could prove it
			t.Run(fmt.Sprintf("size=%d/at=%d", size, at), func(t *testing.T) {
				data := []byte(string(data))
				data[at] ^= 0x40
				rewrite(t, fs, path, data)
				for _, readOnly := range []bool{true, false} {
					_, err := Open(Options{FS: fs, Dir: "wal", ReadOnly: readOnly})
					var c *CorruptionError
					require.ErrorAs(t, err, &c, "readOnly=%v", readOnly)
					about := end - (used - at) // less the headers of what follows
					require.InDelta(t, about, int64(c.Offset), float64(size+used/10+1000), err)
					require.NotContains(t, err.Error(), "\n")
					require.Contains(t, err.Error(), "restore the directory from a copy")
				}
				require.ErrorAs(t, Check(context.Background(), Options{FS: fs, Dir: "wal"}, func(string) {}), new(*CorruptionError))
			})
		}
		rewrite(t, fs, path, data)
		l := open(t, fs, Options{})
		require.EqualValues(t, end, l.End())
		require.NoError(t, l.Close())
	}
}

// The newest bytes may be missing: that is what a crash leaves.
func TestCutCommitLogOpens(t *testing.T) {
	fs := damagedLog(t, 8, 20_000)
	path, data := newestCommitLog(t, fs)
	used := len(strings.TrimRight(string(data), "\x00"))
	last := Offset(-1)
	for cut := used; cut >= 0; cut -= used / 20 {
		rewrite(t, fs, path, data[:cut])
		l, err := Open(Options{FS: fs, Dir: "wal", ReadOnly: true})
		require.NoError(t, err, "cut at %d of %d", cut, used)
		if last >= 0 {
			require.LessOrEqual(t, l.End(), last)
		}
		last = l.End()
		require.NoError(t, l.Close())
	}
	require.Zero(t, last)
}

// A damaged file that is not a commit log's is told of in one line, with what to do.
func TestDamagedFilesAreNamed(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, fs, Options{})
	l.Append(set(1, 1000), 0, 0)
	require.NoError(t, l.Close())
	names, err := fs.List("wal")
	require.NoError(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		path := fs.PathJoin("wal", name)
		f, err := fs.Open(path)
		require.NoError(t, err)
		data, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for what, bytes := range map[string][]byte{"cut": data[:len(data)/2], "flipped": flipped(data, len(data)/8), "missing": nil} {
			rewrite(t, fs, path, bytes)
			if bytes == nil {
				require.NoError(t, fs.Remove(path))
			}
			err := Check(context.Background(), Options{FS: fs, Dir: "wal"}, func(string) {})
			require.ErrorAs(t, err, new(*CorruptionError), "%s %s", what, name)
			require.NotContains(t, err.Error(), "\n", "%s %s", what, name)
			require.Contains(t, err.Error(), strings.TrimSuffix(name, ".sst"), what)
		}
		rewrite(t, fs, path, data)
	}
	require.NoError(t, Check(context.Background(), Options{FS: fs, Dir: "wal"}, func(string) {}))
}

func flipped(b []byte, at int) []byte {
	b = []byte(string(b))
	b[at] ^= 0x40
	return b
}

// Whatever a file of the commit log holds, it is read to its end, and what is said of it is within it.
func FuzzCommitFile(f *testing.F) {
	fs := vfs.NewMem()
	l, err := Open(Options{FS: fs, Dir: "wal"})
	require.NoError(f, err)
	for i := range 3 {
		l.Append(set(i, 20), 0, 0)
		require.NoError(f, l.Sync(context.Background()))
	}
	files, err := scanCommitLog(fs, fs.PathJoin("wal", commitLogDir), true)
	require.NoError(f, err)
	name := files[0].name
	file, err := fs.Open(fs.PathJoin("wal", commitLogDir, name))
	require.NoError(f, err)
	data, err := io.ReadAll(file)
	require.NoError(f, err)
	require.NoError(f, file.Close())
	require.NoError(f, l.Close())
	data = []byte(strings.TrimRight(string(data), "\x00"))
	var num uint32
	_, err = fmt.Sscanf(name, "%d.log", &num)
	require.NoError(f, err)
	f.Add(data)
	f.Add(flipped(data, len(data)/2))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := vfs.NewMem()
		file, err := fs.Create("a", vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = file.Write([]byte(string(data)))
		require.NoError(t, err)
		require.NoError(t, file.Close())
		s, err := scanCommitFile(fs, "a", num)
		require.NoError(t, err)
		require.Less(t, s.damaged, int64(max(len(data), 1)))
		require.True(t, s.settled < 0 || s.damaged >= 0, "only damage makes a proof")
	})
}
