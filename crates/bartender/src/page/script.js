(function () {
  'use strict';
  var d = document, root = d.body, get = function (id) { return d.getElementById(id); };
  var table = get('t'), panel = get('panel'), body = get('body'), form = get('filter'), at = null, quiet = false;
  var list = function (of, what) { return Array.prototype.slice.call(of.querySelectorAll(what)); };
  function show(a) {
    var from = get(a.getAttribute('href').slice(1));
    if (a === at || !from) { return; }
    if (at) { at.classList.remove('at'); }
    at = a;
    a.classList.add('at');
    var copy = from.cloneNode(true);
    list(copy, '[data-as]').forEach(function (it) {
      var same = get(it.dataset.as);
      if (same) { it.parentNode.replaceChild(same.cloneNode(true), it); }
    });
    copy.removeAttribute('id');
    list(copy, '[id]').forEach(function (it) { it.removeAttribute('id'); });
    get('of').textContent = a.closest('tr').querySelector('small').textContent;
    body.textContent = '';
    body.appendChild(copy);
    body.scrollTop = 0;
    if (panel.hidden) {
      panel.hidden = false;
      root.classList.add('open');
      table.parentNode.scrollIntoView({ block: 'start' });
    }
    a.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    try { history.replaceState(null, '', a.getAttribute('href')); } catch (e) { at = a; }
  }
  function close() {
    quiet = true;
    panel.hidden = true;
    root.classList.remove('open');
    if (at) { at.classList.remove('at'); at.focus({ preventScroll: true }); }
    at = null;
    quiet = false;
  }
  function cell(event) { return event.target.closest ? event.target.closest('a.v') : null; }
  table.addEventListener('focusin', function (e) { var a = cell(e); if (a) { if (!quiet) { show(a); } } });
  table.addEventListener('click', function (e) {
    var a = cell(e);
    if (!a) { return; }
    e.preventDefault();
    show(a);
    if (e.detail === 0) { body.focus(); }
  });
  get('close').addEventListener('click', close);
  d.addEventListener('keydown', function (e) {
    if (e.key === 'Escape') { if (!panel.hidden) { close(); } return; }
    var a = cell(e), x = { ArrowLeft: -1, ArrowRight: 1 }[e.key] || 0, y = { ArrowUp: -1, ArrowDown: 1 }[e.key] || 0;
    if (!a || Math.abs(x) + Math.abs(y) === 0 || e.ctrlKey || e.metaKey || e.altKey) { return; }
    var seen = function (it) { return it.offsetParent !== null; };
    var lines = list(table, 'tr[data-t]').filter(seen), line = a.closest('tr');
    var row = list(lines[lines.indexOf(line) + y] || line, 'a.v').filter(seen);
    var to = row[list(line, 'a.v').filter(seen).indexOf(a) + x];
    e.preventDefault();
    if (to) { to.focus(); }
  });
  function filter() {
    var thread = get('thread').value, differ = get('differ').checked;
    list(form, '[data-p]').forEach(function (box) { root.classList.toggle('x' + box.dataset.p, !box.checked); });
    list(d, '[data-t]').forEach(function (it) {
      var of = it.dataset.t.split(' ');
      it.hidden = (thread !== '' ? of.indexOf(thread) === -1 : false) || (differ ? it.dataset.d !== '1' : false);
    });
    list(table, 'tbody').forEach(function (b) {
      var some = list(b, 'tr[data-t]').some(function (r) { return !r.hidden; });
      b.hidden = !some;
    });
  }
  form.addEventListener('change', filter);
  form.addEventListener('submit', function (e) { e.preventDefault(); });
  form.hidden = false;
  filter();
  var first = list(table, 'a.v').filter(function (a) { return a.getAttribute('href') === location.hash; })[0];
  // The address leads to the reasons at the end of the page: bring the cell here instead.
  window.addEventListener('load', function () {
    if (!first) { return; }
    var whole = get(location.hash.slice(1)).closest('details');
    if (whole) { whole.open = false; }
    show(first);
  });
}());
