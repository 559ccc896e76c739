// Before the first paint: the colours chosen last time. No module, because
// modules run after it.
(function () {
  'use strict';
  var choice = null;
  try {
    choice = localStorage.getItem('helix-theme');
  } catch { /* storage may be forbidden */ }
  if (choice === 'dark' || choice === 'light') {
    document.documentElement.dataset.theme = choice;
  }
})();
