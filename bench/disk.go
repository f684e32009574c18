package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fsyncs is how many syncs of a file are timed to know a disk.
const fsyncs = 200

// disk finds where a directory's files are, and how long appending 4 KiB and fsync take there: the half and 99 in 100 of fsyncs.
func disk(dir string) (name string, p50, p99 time.Duration, err error) {
	f, err := os.CreateTemp(dir, "holdfast-bench-fsync-")
	if err != nil {
		return "", 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	var h Histogram
	page := make([]byte, 4096)
	for range fsyncs {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return "", 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return "", 0, 0, fmt.Errorf("fsync: %w", err)
		}
		h.Record(time.Since(began))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", 0, 0, err
	}
	return mountOf(string(mounts), filepath.Dir(f.Name())), h.Quantile(0.5), h.Quantile(0.99), nil
}

// mountOf is the file system and the device of the mount, of those in the form of /proc/mounts, that a directory is in: the one whose
// path is the longest, and of equals the last.
func mountOf(mounts, dir string) string {
	best, found := "", "unknown"
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if at := strings.TrimSuffix(f[1], "/") + "/"; strings.HasPrefix(dir+"/", at) && len(at) >= len(best) {
			best, found = at, fmt.Sprintf("%s on %s", f[2], f[0])
		}
	}
	return found
}
