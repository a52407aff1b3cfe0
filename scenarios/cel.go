package scenarios

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
)

// program is a compiled CEL expression that gives true or false.
type program struct {
	text string
	run  cel.Program
	// parts are what it compares: they say more than true or false.
	parts []part
}

// part is an operand of a comparison, or a condition among several.
type part struct {
	text string
	run  cel.Program
}

// compile checks an expression over the named variables. It must give a bool.
func compile(text string, names []string) (*program, error) {
	options := []cel.EnvOption{ext.Strings(), ext.Lists(), ext.Sets(), ext.Math(), cel.OptionalTypes(),
		cel.EnableMacroCallTracking()}
	for _, name := range names {
		options = append(options, cel.Variable(name, cel.DynType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("preparing CEL: %w", err)
	}
	checked, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		var all []string
		for _, e := range issues.Errors() {
			all = append(all, fmt.Sprintf("%s (at character %d)", strings.ReplaceAll(e.Message, "\n", " "), e.Location.Column()+1))
		}
		return nil, fmt.Errorf("is not CEL: %s", strings.Join(all, "; "))
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("gives a value of type %s: must give true or false", t)
	}
	run, err := env.Program(checked)
	if err != nil {
		return nil, fmt.Errorf("is not CEL: %w", err)
	}
	p := &program{text: text, run: run}
	for _, e := range operands(checked.NativeRep().Expr()) {
		// Without a part, less is told; no more comes of it.
		if text, err := cel.ExprToString(e, checked.NativeRep().SourceInfo()); err == nil {
			if compiled, issues := env.Compile(text); issues.Err() == nil {
				if run, err := env.Program(compiled); err == nil {
					p.parts = append(p.parts, part{text, run})
				}
			}
		}
	}
	return p, nil
}

// operands are what an expression compares; the whole of it if it is no
// comparison.
func operands(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind {
		return []ast.Expr{e}
	}
	call := e.AsCall()
	var all []ast.Expr
	switch call.FunctionName() {
	case operators.LogicalAnd:
		for _, term := range call.Args() {
			all = append(all, operands(term)...)
		}
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		for _, side := range call.Args() {
			if side.Kind() != ast.LiteralKind {
				all = append(all, side)
			}
		}
	default:
		all = []ast.Expr{e}
	}
	return all
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

// look evaluates the expression and tells the values that led to the result.
func (p *program) look(vars map[string]any) outcome {
	met, err := p.eval(vars)
	if err != nil {
		return outcome{saw: err.Error()}
	}
	if len(p.parts) == 0 {
		return outcome{met, fmt.Sprint(met)}
	}
	var saw []string
	for _, part := range p.parts {
		value := part.value(vars)
		if len(p.parts) > 1 {
			value = cut(part.text, 60) + " is " + value
		}
		saw = append(saw, value)
	}
	return outcome{met, strings.Join(saw, ", ")}
}

func (p *part) value(vars map[string]any) string {
	out, _, err := p.run.Eval(vars)
	if err != nil {
		return err.Error()
	}
	return cut(types.Format(out), 80)
}

// cut shortens a text to so many letters.
func cut(text string, length int) string {
	if letters := []rune(text); len(letters) > length {
		return string(letters[:length-1]) + "…"
	}
	return text
}
