// The tab bar: which tab is open is on the body (the styles hide the others' parts) and in the address.

import { el, heard } from './dom.js';

export function mount(part) {
  return new Tabs(part);
}

class Tabs {
  constructor({ root, props, trigger }) {
    this.props = props;
    this.trigger = trigger;
    this.root = root;
    root.className = 'tab-bar';
    root.setAttribute('role', 'tablist');
    root.setAttribute('aria-label', 'What to begin with');
    this.buttons = new Map();
    root.addEventListener('keydown', (event) => this.step(event));
    addEventListener('hashchange', () => this.turn(this.addressed()));
    heard('tab', (key) => this.turn(key));
  }

  show(value) {
    if (!value?.tabs) return;
    if (!this.buttons.size) this.build(value.tabs);
    this.turn(this.addressed() ?? value.tab);
  }

  build(tabs) {
    for (const { key, title } of tabs) {
      const button = el('button.tab', { type: 'button', role: 'tab', onclick: () => this.turn(key) }, title);
      button.dataset.key = key;
      this.buttons.set(key, button);
    }
    this.root.replaceChildren(...this.buttons.values());
  }

  /** The tab in the address; what stands behind a "?" there is the tab's own. */
  addressed() {
    const key = location.hash.slice(1).split('?')[0];
    return this.buttons.has(key) ? key : null;
  }

  turn(key) {
    if (!this.buttons.has(key)) return;
    const changed = document.body.dataset.tab !== key;
    for (const [one, button] of this.buttons) {
      button.setAttribute('aria-selected', String(one === key));
      button.tabIndex = one === key ? 0 : -1;
    }
    document.body.dataset.tab = key;
    if (changed) this.root.scrollLeft = this.buttons.get(key).offsetLeft - this.root.offsetLeft - this.root.clientWidth / 3;
    if (this.addressed() !== key) history.replaceState(null, '', `#${key}`);
    if (this.props.value?.tab !== key || changed) {
      this.props.value = { ...this.props.value, tab: key };
      this.trigger('turned');
    }
  }

  step(event) {
    const keys = [...this.buttons.keys()];
    const now = keys.indexOf(document.body.dataset.tab);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: keys.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const key = keys[(to + keys.length) % keys.length];
    this.turn(key);
    this.buttons.get(key).focus();
  }
}
