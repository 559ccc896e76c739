package helix

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// callBatch does one call for all members and gives each its result.
func (t *Task[In, Out]) callBatch(ctx context.Context, members []*Ticket) error {
	ins := make([]In, len(members))
	for i, m := range members {
		ins[i] = t.itemOf(m).in
	}
	outs, err := t.spec.Batch(ctx, ins)
	err = itemErrors(t.spec.Name, len(members), len(outs), err, func(i int, err error) { members[i].err = err })
	if err != nil {
		return err
	}
	for i := range outs {
		t.itemOf(members[i]).out = outs[i]
	}
	return nil
}

// key returns what Kind.Key says of an item, or the error that it cannot be compared.
func (t *Task[In, Out]) key(in In) (any, error) {
	if t.spec.Key == nil {
		return nil, nil
	}
	key := t.spec.Key(in)
	if key != nil && !reflect.ValueOf(key).Comparable() {
		return nil, fieldError("Kind.Key()", fmt.Sprintf("a %T", key), "a comparable value, or nil")
	}
	return key, nil
}

// keyOf returns the key of the ticket's item, or nil. It was asked for before, by buildRequest, where
// what is wrong with it was told; should that be different now, the item is like no other.
func (t *Task[In, Out]) keyOf(of *Ticket) (key any) {
	defer func() {
		if recover() != nil {
			key = nil
		}
	}()
	key, _ = t.key(t.itemOf(of).in)
	return key
}

// callItems does one call for n items; members[i] asks for item[i].
func (t *Task[In, Out]) callItems(ctx context.Context, members []*Ticket, item []int, n int) error {
	ins := make([]In, n)
	for i, m := range members {
		ins[item[i]] = t.itemOf(m).in
	}
	outs, err := t.spec.Batch(ctx, ins)
	var errs []error
	err = itemErrors(t.spec.Name, n, len(outs), err, func(i int, err error) {
		if errs == nil {
			errs = make([]error, n)
		}
		errs[i] = err
	})
	if err != nil {
		return err
	}
	for i, m := range members {
		if errs != nil {
			m.err = errs[item[i]]
		}
		if len(outs) == n {
			t.itemOf(m).out = outs[item[i]]
		}
	}
	return nil
}

// onlyItems reports whether err is ItemErrors, wrapped maybe, and nothing joined with them:
// that would be the error of all members.
func onlyItems(err error) bool {
	for err != nil {
		if _, ok := err.(ItemErrors); ok {
			return true
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			errs := joined.Unwrap()
			if len(errs) != 1 {
				return false
			}
			err = errs[0]
			continue
		}
		err = errors.Unwrap(err)
	}
	return false
}

// itemErrors sorts out what a batch function returned for want items: the
// error of single items goes to fail, one of all members is returned.
func itemErrors(kind string, want, got int, err error, fail func(i int, err error)) error {
	if err == nil {
		if got != want {
			return &BatchLengthError{Kind: kind, Want: want, Got: got}
		}
		return nil
	}
	var items ItemErrors // on the heap, for errors.As
	if !errors.As(err, &items) || !onlyItems(err) {
		return err
	}
	failed := 0
	for _, e := range items {
		if e != nil {
			failed++
		}
	}
	switch {
	case items != nil && len(items) != want:
		return &BatchLengthError{Kind: kind, Want: want, Got: len(items)}
	case got != want && (failed < want || got != 0):
		return &BatchLengthError{Kind: kind, Want: want, Got: got}
	}
	for i, e := range items {
		if e != nil {
			fail(i, e)
		}
	}
	return nil
}
