package infra_test

import "testing"

func TestMinimal(t *testing.T) {
	endpoint := moto(t)
	r := newRoot(t, "examples/minimal", endpoint)
	r.run(t, "validate")
	r.run(t, "apply", "-auto-approve")
	out, _, code := r.try(t, "plan", "-detailed-exitcode")
	if code != 0 {
		t.Errorf("the second plan: %d\n%s", code, out)
	}
	r.run(t, "destroy", "-auto-approve")
}
