package replication

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
)

// fileSpool is a spool in a file, which is gone when it is closed.
type fileSpool struct{ *os.File }

// NewFileSpool returns what makes spools in dir. What a crash leaves there is named repl-*.rdb.
func NewFileSpool(dir string) func() (Spool, error) {
	return func() (Spool, error) {
		f, err := os.CreateTemp(dir, "repl-*.rdb")
		if err != nil {
			return nil, err
		}
		return fileSpool{f}, nil
	}
}

// Close closes the file and removes it.
func (s fileSpool) Close() error { return errors.Join(s.File.Close(), os.Remove(s.Name())) }

// RandomID returns 40 random hex digits: a replication id, or the mark around a snapshot.
func RandomID() string {
	b := make([]byte, 20)
	rand.Read(b) // never fails: it ends the process instead
	return hex.EncodeToString(b)
}
