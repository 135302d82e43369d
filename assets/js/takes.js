// Fields that mean nothing to the chosen model leave the form; tabs in which it cannot work say why. What is picked
// elsewhere in the page (a VAE, a text encoder) is handed on to its field.

import { el, heard, say } from './dom.js';

const PICKED = ['vae', 'text_encoder'];

export function mount({ root, props, trigger }) {
  const why = el('p.tab-why', { role: 'status' });
  root.append(why);
  let tabs = {};
  const tell = () => say(why, tabs[document.body.dataset.tab] ?? '');
  new MutationObserver(tell).observe(document.body, { attributeFilter: ['data-tab'] });
  for (const name of PICKED) {
    heard(name, ({ key }) => {
      if (!root.isConnected) return;
      props.value = { ...props.value, pick: { [name]: key } };
      trigger('picked');
    });
  }
  const show = (value) => {
    if (!value?.fields) return;
    const stays = new Set(value.fields);
    for (const name of value.all) document.getElementById(`ask-${name}`)?.classList.toggle('untaken', !stays.has(name));
    tabs = value.tabs;
    for (const tab of document.querySelectorAll('.tab')) tab.classList.toggle('unfit', Boolean(tabs[tab.dataset.key]));
    tell();
  };
  return { show };
}
