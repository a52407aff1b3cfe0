package scenarios

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
)

// program is a compiled CEL expression.
type program struct {
	text string
	run  cel.Program
}

// compile checks an expression over the named variables. It must give a bool.
func compile(text string, names []string) (*program, error) {
	options := []cel.EnvOption{ext.Strings(), ext.Lists(), ext.Sets(), cel.OptionalTypes()}
	for _, name := range names {
		options = append(options, cel.Variable(name, cel.DynType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("preparing CEL: %w", err)
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		var all []string
		for _, e := range issues.Errors() {
			all = append(all, fmt.Sprintf("%s (at character %d)", e.Message, e.Location.Column()+1))
		}
		return nil, fmt.Errorf("is not CEL: %s", strings.Join(all, "; "))
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("gives a %s: must give true or false", t)
	}
	run, err := env.Program(ast)
	if err != nil {
		return nil, fmt.Errorf("is not CEL: %w", err)
	}
	return &program{text, run}, nil
}

// eval evaluates the expression. An error, such as a field that is not there
// yet, counts as not true and is told.
func (p *program) eval(vars map[string]any) (bool, error) {
	out, _, err := p.run.Eval(vars)
	if err != nil {
		return false, err
	}
	result, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("does not give true or false")
	}
	return result, nil
}
