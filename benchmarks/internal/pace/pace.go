// Package pace sleeps more precisely than time.Sleep, where the system allows it.
package pace
