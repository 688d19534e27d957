package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/store"
)

// fetchHistory gets what is missing of the history, page by page. A section that is not
// what the records say is got again, from others than those it came from.
func (r *joinRun) fetchHistory(ctx context.Context, j *store.Joining) error {
	kept := &pages{r: r, pruned: map[string]bool{}}
	for {
		w, ok := j.Next()
		if !ok {
			return nil
		}
		if w.Part != kept.part || w.Month != kept.month {
			kept.part, kept.month = w.Part, w.Month
			clear(kept.pruned)
		}
		name := w.Part.String()
		if w.Part == store.PartSettlements {
			name += " of " + w.Month.String()
		}
		r.step(name)
		id, page, err := kept.next(ctx, w)
		if err != nil {
			return err
		}
		if page == nil { // everybody has pruned it
			r.Log.WarnContext(ctx, "nobody keeps these lines any more, what the months came to is there", "month", w.Month.String())
			if err := j.Forget(w.Month); err != nil {
				return err
			}
			continue
		}
		suspects, err := j.Add(id, page)
		switch {
		case err == nil:
			p := &r.progress
			p.Provider, p.Lines, p.Trouble = id, p.Lines+uint64(len(page.Lines)), ""
			r.report()
			if err := r.fault("page"); err != nil {
				return err
			}
		case errors.Is(err, store.ErrPruned):
			kept.pruned[id] = true
		case errors.Is(err, store.ErrSnapshot):
			for _, s := range suspects {
				r.refuse(ctx, s, err)
			}
			if kept.id == id {
				kept.id = ""
			}
		default:
			return fmt.Errorf("joining: %w", err)
		}
	}
}

// pages asks for pages: the same provider as long as it answers, so that a section is of one.
type pages struct {
	r      *joinRun
	id     string // who was asked last
	part   store.Part
	month  market.Month
	pruned map[string]bool // those who do not keep the month
}

// next gets the page from whoever gives it. It returns no page if everybody who is there
// has said that it is not kept, and waits as long as nobody is there.
func (p *pages) next(ctx context.Context, w store.Want) (id string, page *store.Page, err error) {
	for {
		asked, gone := 0, 0
		for _, id := range p.order() {
			if p.pruned[id] {
				gone++
				continue
			}
			asked++
			if page := p.ask(ctx, id, w); page != nil {
				p.id = id
				return id, page, nil
			}
		}
		if gone > 0 && asked == 0 {
			return "", nil, ctx.Err()
		}
		if err := p.r.pause(ctx); err != nil {
			return "", nil, err
		}
	}
}

// order lists those who can be asked, the last one first.
func (p *pages) order() (ids []string) {
	for _, x := range p.r.Providers() {
		switch {
		case p.r.refused[x.ID] != nil:
		case x.ID == p.id:
			ids = append([]string{x.ID}, ids...)
		default:
			ids = append(ids, x.ID)
		}
	}
	return ids
}

func (p *pages) ask(ctx context.Context, id string, w store.Want) *store.Page {
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		a, err := Put[PageAnswer](ctx, p.r.Ask, id, AskPage, w)
		var page *store.Page
		if err == nil {
			p.r.progress.Bytes += int64(len(a.Page))
			page, err = store.DecodePage(a.Page)
		}
		switch {
		case err == nil:
			return page
		case errors.Is(err, ErrAnswer), errors.Is(err, store.ErrSnapshot):
			p.r.refuse(ctx, id, err)
			return nil
		default:
			p.r.lacks(ctx, id, err)
		}
		if p.r.breathe(ctx, attempt) != nil {
			return nil
		}
	}
	return nil
}

// breathe waits before a provider is asked again that did not answer: it may have been asked
// too often.
func (r *joinRun) breathe(ctx context.Context, attempt int) error {
	t := time.NewTimer(min(r.every, time.Duration(attempt)*200*time.Millisecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
