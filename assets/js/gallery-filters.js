// The row above the grid: the search, and menus that narrow the view down, each saying what is set in it.

import { el, icon, say } from './dom.js';
import { SORTS, filtersOf } from './gallery-view.js';
import { daysAgo, month, monthRange, shortDay, taskOf } from './gallery-words.js';

const REST = 160; // milliseconds without a key after which a search begins
const FUNNEL = 'M4 6h16 M7 12h10 M10 18h4';
const SPANS = { today: ['Today', 0], week: ['Last 7 days', 6], month: ['Last 30 days', 29], year: ['Last 365 days', 364] };
const MENUS = {
  task: { all: 'Any task', label: 'Task', facet: 'tasks', name: taskOf },
  model: { all: 'Any model', label: 'Model', facet: 'models', name: (name) => name },
  lora: { all: 'Any LoRA', label: 'LoRA', facet: 'loras', name: (name) => name },
  sampler: { all: 'Any sampler', label: 'Sampler', facet: 'samplers', name: (name) => name },
};

export class Filters {
  /** changed(values): other filters are set; they are laid over the view. */
  constructor({ changed }) {
    this.changed = changed;
    this.view = {};
    this.facets = {};
    this.build();
  }

  build() {
    this.search = el('input', { type: 'search', placeholder: 'Search prompts and parameters', 'aria-label': 'Search prompts and parameters' });
    this.search.addEventListener('input', () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.changed({ q: this.search.value }), REST);
    });
    this.search.addEventListener('change', () => (clearTimeout(this.typing), this.changed({ q: this.search.value })));
    this.menus = new Map();
    for (const [name, { label }] of Object.entries(MENUS)) {
      const menu = el('select', { 'aria-label': label, onchange: () => this.changed({ [name]: menu.value }) });
      this.menus.set(name, menu);
    }
    this.dates = el('select', { 'aria-label': 'Date', onchange: () => this.dated() });
    const edge = (name, label) => el('input', { type: 'date', 'aria-label': label, onchange: ({ target }) => this.changed({ [name]: target.value }) });
    this.from = edge('from', 'From this day');
    this.to = edge('to', 'To this day');
    this.between = el('span.gallery-between', { hidden: true }, this.from, 'to', this.to);
    this.sort = el('select.gallery-sort', { 'aria-label': 'Order', onchange: () => this.changed({ sort: this.sort.value }) });
    this.sort.append(...Object.entries(SORTS).map(([value, name]) => el('option', { value }, name)));
    this.clear = el('button.gallery-word', { type: 'button', hidden: true, onclick: () => this.reset() }, 'Clear');
    this.fold = el('button.gallery-fold', { type: 'button', 'aria-expanded': 'false', 'aria-controls': 'gallery-menus', onclick: () => this.unfold() }, icon(FUNNEL), el('span', {}, 'Filters'));
    this.row = el('div.gallery-menus', { id: 'gallery-menus', role: 'group', 'aria-label': 'Filters' }, ...this.menus.values(), this.dates, this.between, this.clear);
    this.root = el('div.gallery-bar', {}, this.search, this.fold, this.row, this.sort);
  }

  unfold() {
    const open = this.fold.getAttribute('aria-expanded') !== 'true';
    this.fold.setAttribute('aria-expanded', String(open));
    this.root.classList.toggle('unfolded', open);
  }

  /** No filter any more; the place and the order stay. */
  reset() {
    this.asked = false;
    this.search.value = '';
    this.changed(Object.fromEntries(filtersOf(this.view).map((name) => [name, ''])));
    this.search.focus();
  }

  show(view, facets) {
    this.view = view;
    this.facets = facets ?? this.facets;
    if (document.activeElement !== this.search) this.search.value = view.q ?? '';
    for (const [name, menu] of this.menus) this.fill(menu, MENUS[name], view[name] ?? '');
    this.fillDates();
    this.sort.value = view.sort ?? 'newest';
    const set = filtersOf(view).filter((name) => name !== 'q');
    this.clear.hidden = !set.length;
    say(this.fold.lastChild, set.length ? `Filters, ${set.length} set` : 'Filters');
    this.fold.classList.toggle('set', set.length > 0);
  }

  /** A menu of one thing narrows nothing down, so it is not there. */
  fill(menu, { all, facet, name }, value) {
    const rows = this.facets[facet] ?? [];
    const known = rows.some(([one]) => one === value);
    const wanted = value && !known ? [[value, null], ...rows] : rows;
    const drawn = JSON.stringify(wanted);
    if (menu.drawn !== drawn) {
      menu.drawn = drawn;
      const option = ([one, count]) => el('option', { value: one }, `${name(one)}${count === null ? '' : `  (${count.toLocaleString('en')})`}`);
      menu.replaceChildren(el('option', { value: '' }, all), ...wanted.map(option));
    }
    menu.value = value;
    menu.classList.toggle('set', Boolean(value));
    menu.hidden = rows.length < 2 && !value;
  }

  fillDates() {
    const { from = '', to = '' } = this.view;
    const months = (this.facets.months ?? []).map(([name]) => name);
    const drawn = JSON.stringify(months);
    if (this.dates.drawn !== drawn) {
      this.dates.drawn = drawn;
      const option = (value, text) => el('option', { value }, text);
      const counts = new Map(this.facets.months ?? []);
      this.dates.replaceChildren(
        option('', 'Any time'),
        ...Object.entries(SPANS).map(([value, [text]]) => option(value, text)),
        option('between', 'Between two days'),
        ...months.map((name) => option(name, `${month(name)}  (${counts.get(name).toLocaleString('en')})`)),
      );
    }
    const span = Object.keys(SPANS).find((name) => from === daysAgo(SPANS[name][1]) && !to);
    const whole = months.find((name) => monthRange(name).join() === `${from},${to}`);
    const found = from || to ? (span ?? whole ?? 'between') : this.asked ? 'between' : '';
    this.dates.value = found;
    this.dates.classList.toggle('set', Boolean(from || to));
    this.between.hidden = found !== 'between';
    this.root.classList.toggle('long', !this.between.hidden);
    this.from.value = from;
    this.to.value = to;
    this.dates.title = from || to ? [from && `from ${shortDay(from)}`, to && `to ${shortDay(to)}`].filter(Boolean).join(' ') : '';
  }

  dated() {
    const { value } = this.dates;
    this.asked = value === 'between';
    if (this.asked) {
      this.show(this.view);
      return this.from.focus();
    }
    if (value in SPANS) return this.changed({ from: daysAgo(SPANS[value][1]), to: '' });
    const [from, to] = value ? monthRange(value) : ['', ''];
    return this.changed({ from, to });
  }
}
