package snapshot

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Work that somebody waits for, such as a full sync, can have the store's merges give way. Pebble can be told to begin none; one that
// runs it cannot hold back, and it may run for many seconds and take as much of the processor as the work itself. So what merges write
// goes through a file system that lets each write wait a little: enough that they take next to nothing, and little enough that
// they go on and that whoever waits for their end is not held up by a pause that is forgotten.

// mergeWait is for how long each write of a merge waits during a pause. A write is a block of some 8 KiB: 160 KiB/s at most. It waits
// only in the first mergeWaits of a pause: one that lasts, since a replica is slow, must not keep a store that is far behind from merging.
const (
	mergeWait  = 50 * time.Millisecond
	mergeWaits = 30 * time.Second
)

// mergePause counts the pauses under way.
type mergePause struct {
	wait, waits time.Duration // mergeWait and mergeWaits, but in tests
	mu          sync.Mutex
	count       int
	over        chan struct{} // closed when writes need not wait any more; nil: they need not
	timer       *time.Timer   // after waits
}

// PauseCompactions lets no compaction begin until end is called, but for a store that is 10 checkpoints or 1 GB behind, and those
// that run get on slowly for a while. Pauses nest; end is idempotent. What may begin then begins with the next ingest, as for SetCompactions.
func (s *Store) PauseCompactions() (end func()) {
	p := &s.pause
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count++; p.count == 1 {
		over := make(chan struct{})
		p.over = over
		p.timer = time.AfterFunc(p.waits, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.over == over {
				p.letGoLocked()
			}
		})
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.count--; p.count == 0 {
			p.timer.Stop()
			p.letGoLocked()
		}
	})
}

func (p *mergePause) letGoLocked() {
	if p.over != nil {
		close(p.over)
		p.over = nil
	}
}

// on tells whether there is a pause, and returns what is closed when writes need not wait any more; nil: they need not.
func (p *mergePause) on() (paused bool, over <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count > 0, p.over
}

// mergeCategory is what Pebble calls the writes of compactions.
const mergeCategory vfs.DiskWriteCategory = "pebble-compaction"

// pausedFS is the store's file system as Pebble sees it.
type pausedFS struct {
	vfs.FS
	pause *mergePause
}

// Create implements vfs.FS.
func (f pausedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	if err != nil || category != mergeCategory {
		return file, err
	}
	return pausedFile{file, f.pause}, nil
}

// Unwrap implements vfs.FS.
func (f pausedFS) Unwrap() vfs.FS { return f.FS }

type pausedFile struct {
	vfs.File
	pause *mergePause
}

// Write implements vfs.File.
func (f pausedFile) Write(b []byte) (int, error) {
	if _, over := f.pause.on(); over != nil {
		timer := time.NewTimer(f.pause.wait)
		select {
		case <-over:
		case <-timer.C:
		}
		timer.Stop()
	}
	return f.File.Write(b)
}
