package server

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/server/engine"
)

// A log that is kept without a limit, or for a replica that does not come back, ends with a full disk. The engine refuses writes
// then; long before, somebody has to hear of it, and of what holds the log.

// diskLookEvery is how often the disk is looked at: a disk that fills at 200 MB/s loses 2 GB between two looks.
const diskLookEvery = 10 * time.Second

// diskWatch warns, once for each time that room becomes short.
type diskWatch struct {
	usage   func() (free, total int64, ok bool)
	holders func() ([]engine.PinInfo, error) // lowest first
	log     hclog.Logger

	mu          sync.Mutex
	looked      time.Time
	free, total int64 // bytes, at the last look; total 0: not known
	short       bool
	why         string // what held the log at the last look
}

// tick looks if it is time to. percent is how much of the disk must be free; 0: nobody is warned.
func (d *diskWatch) tick(now time.Time, percent int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.looked) < diskLookEvery && !now.Before(d.looked) {
		return
	}
	d.looked = now
	from, why, err := d.holder()
	if err != nil {
		why = err.Error()
	}
	d.why = why
	var ok bool
	if d.free, d.total, ok = d.usage(); !ok {
		d.free, d.total = 0, 0
		return
	}
	was := d.short
	d.short = percentOf(d.free, d.total) < float64(percent)
	switch {
	case d.short && !was:
		d.log.Warn("the disk is becoming full", "free-bytes", d.free, "total-bytes", d.total, "warn-below-percent", percent,
			"log-held-by", why, "log-held-from", from)
	case was && !d.short:
		d.log.Info("the disk has room again", "free-bytes", d.free, "total-bytes", d.total)
	}
}

// heldBy tells what keeps the log, for INFO. Where age is a limit that takes a search on disk, so that the last look has to do.
func (d *diskWatch) heldBy(searches bool) string {
	if !searches {
		if _, why, err := d.holder(); err == nil {
			return why
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.why
}

// holder tells what keeps the oldest part of the log.
func (d *diskWatch) holder() (from int64, why string, err error) {
	all, err := d.holders()
	if err != nil || len(all) == 0 {
		return 0, "", err
	}
	return int64(all[0].Offset), all[0].Why, nil
}

// room returns what the last look has found.
func (d *diskWatch) room() (free, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, d.total
}
