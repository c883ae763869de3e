package sources_test

import "time"

const (
	waitLimit = 30 * time.Second
	waitStep  = 20 * time.Millisecond
)
