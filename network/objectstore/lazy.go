package objectstore

import "context"

// lazy is a value that is made when it is first needed. A failure to make it is not kept. It is safe
// for concurrent use: one caller makes the value, the others wait for it or for their context.
type lazy[T any] struct {
	gate    chan struct{}
	produce func(context.Context) (T, error)

	value T
	made  bool
}

func newLazy[T any](produce func(context.Context) (T, error)) *lazy[T] {
	return &lazy[T]{gate: make(chan struct{}, 1), produce: produce}
}

func (l *lazy[T]) get(ctx context.Context) (T, error) {
	var none T
	select {
	case l.gate <- struct{}{}:
		defer func() { <-l.gate }()
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	if l.made {
		return l.value, nil
	}
	value, err := l.produce(ctx)
	if err != nil {
		return none, err
	}
	l.value, l.made = value, true
	return value, nil
}
