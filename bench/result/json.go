package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Errors of Read, of which the text says what to do.
var (
	ErrFormat = errors.New("result: not a file of results")
	ErrNewer  = errors.New("result: written by a newer program")
	ErrOlder  = errors.New("result: written by an older program")
)

// Read reads what Write has written. A file in another format is refused: ErrFormat, ErrNewer, ErrOlder.
func Read(path string) (*Run, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var head struct{ Version *int }
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, path, err)
	}
	switch {
	case head.Version == nil:
		return nil, fmt.Errorf("%w: %s: it has no version", ErrFormat, path)
	case *head.Version > Version:
		return nil, fmt.Errorf("%w: %s has version %d, and this one reads version %d", ErrNewer, path, *head.Version, Version)
	case *head.Version < Version:
		return nil, fmt.Errorf("%w: %s has version %d, and this one reads version %d; measure again", ErrOlder, path, *head.Version, Version)
	}
	run := new(Run)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(run); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s: something follows the results", ErrFormat, path)
	}
	return run, nil
}

// Write writes a run to path, a line for each point so that two runs can be told apart by diff. The file is there whole or not at
// all. A metric that is not a number is an error.
func Write(path string, run *Run) error {
	head := *run
	head.Points = []Point{}
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	// Inside a string the quotes would be escaped, so that this is the field.
	before, after, _ := bytes.Cut(b, []byte(`"Points":[]`))
	b = append(bytes.Clone(before), `"Points":[`...)
	for i := range run.Points {
		p, err := json.Marshal(run.Points[i])
		if err != nil {
			return fmt.Errorf("point %d, %s of %s: %w", i+1, run.Points[i].Bench, run.Points[i].Subject, err)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), p...)
	}
	b = append(append(append(b, "\n]"...), after...), '\n')
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
