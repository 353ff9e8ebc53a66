;;; midspan.el --- Fill the gap at the cursor  -*- lexical-binding: t; -*-

;; Package-Requires: ((emacs "30.1") (lsp-mode "10.0.0"))
;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; A client of the midspan language server for lsp-mode, whose inline completions show what it suggests.

;;; Code:

(require 'lsp-mode)
(require 'lsp-inline-completion)

(defgroup midspan nil
  "Fill the gap at the cursor."
  :group 'lsp-mode)

(defcustom midspan-command
  (let ((ours (expand-file-name "../../.venv/bin/midspan" (file-name-directory (or load-file-name buffer-file-name)))))
    (list (if (file-executable-p ours) ours "midspan") "serve"))
  "The server's command line: that of this file's clone, else of `exec-path'."
  :type '(repeat string))

(defcustom midspan-languages '("python")
  "The language ids of the documents that the server is told of."
  :type '(repeat string))

(defcustom midspan-settings nil
  "The server's settings, such as (:quiet t :disable [\"*.md\"])."
  :type 'plist)

;; Lsp-mode sends both to all servers of a buffer, and some complain of what is not theirs.
(defun midspan--told (command)
  "Run COMMAND on midspan alone."
  (with-lsp-workspace (lsp-find-workspace 'midspan (buffer-file-name))
    (lsp-request-async "workspace/executeCommand" command #'ignore)))

(define-advice lsp-execute-code-action (:around (execute action) midspan)
  "EXECUTE an ACTION of midspan's on it alone."
  (if (string-search "midspan" (or (lsp:code-action-kind? action) ""))
      (with-lsp-workspace (lsp-find-workspace 'midspan (buffer-file-name)) (funcall execute action))
    (funcall execute action)))

(lsp-register-client
 (make-lsp-client
  :server-id 'midspan
  :new-connection (lsp-stdio-connection (lambda () midspan-command))
  :activation-fn (lambda (&rest _) (member (lsp-buffer-language) midspan-languages))
  :initialization-options (lambda () midspan-settings)
  :action-handlers (ht ("midspan.didAccept" #'midspan--told))
  :add-on? t
  :multi-root t))

(defun midspan--current ()
  "The suggestion that is shown, nil where it is another server's or there is none."
  (-when-let* ((item (elt lsp-inline-completion--items lsp-inline-completion--current))
               ((&InlineCompletionItem :command? (&Command? :command)) item))
    (and (equal command "midspan.didAccept") item)))

(defun midspan--notify (method &rest more)
  "Tell midspan of the suggestion that is shown: METHOD, and MORE parameters."
  (-when-let (item (midspan--current))
    (with-lsp-workspace (lsp-find-workspace 'midspan (buffer-file-name))
      (lsp-notify method `(:item ,item ,@more)))))

(defun midspan--shown ()
  "Tell midspan that its suggestion is on screen."
  (midspan--notify "textDocument/didShowCompletion"))

(defun midspan--accept (part)
  "Insert what the regexp PART matches of the suggestion, and offer the rest."
  (unless (and (lsp-inline-completion--active-p) (midspan--current)) (user-error "There is no suggestion"))
  (-let* (((&InlineCompletionItem :insert-text :range? (&RangeToPoint :start)) (midspan--current))
          (typed (- lsp-inline-completion--start-point start))
          (end (and (string-match part (substring insert-text typed)) (+ typed (match-end 0)))))
    (if (= end (length insert-text)) (lsp-inline-completion-accept)
      (lsp-inline-completion-cancel)
      (insert (substring insert-text typed end))
      (midspan--notify "textDocument/didPartiallyAcceptCompletion" :acceptedLength (midspan--units insert-text end))
      (lsp-inline-completion-display 'implicit))))

(defun midspan--units (text end)
  "The length of TEXT up to END in UTF-16."
  (/ (length (encode-coding-string (substring text 0 end) 'utf-16le)) 2))

(defun midspan-accept-word ()
  "Insert the next word of the suggestion."
  (interactive)
  (midspan--accept "\\`[[:space:]]*\\(?:[[:alnum:]_]+\\|[^[:alnum:]_[:space:]]+\\)"))

(defun midspan-accept-line ()
  "Insert the rest of the suggestion's line, or its next line."
  (interactive)
  (midspan--accept "\\`\n*[^\n]+"))

(add-hook 'lsp-inline-completion-shown-hook #'midspan--shown)
;; Their keys do not take the suggestion away.
(dolist (command '(midspan-accept-word midspan-accept-line)) (put command 'lsp-inline-completion-keep t))
(keymap-set lsp-inline-completion-active-map "TAB" #'lsp-inline-completion-accept)
(keymap-set lsp-inline-completion-active-map "<tab>" #'lsp-inline-completion-accept)
(keymap-set lsp-inline-completion-active-map "M-<right>" #'midspan-accept-word)
(keymap-set lsp-inline-completion-active-map "C-M-<right>" #'midspan-accept-line)

(provide 'midspan)
;;; midspan.el ends here
