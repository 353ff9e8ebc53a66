;;; driver.el --- Drives a real Emacs step by step, and keeps what was seen  -*- lexical-binding: t; -*-

;; MIDSPAN_CASE names a JSON file: the `file', its `steps', the `timeout_s' of each, and where to write the `result'.
;; A step is a list, a verb and what it takes:
;;   keys K      press K, as `kbd' writes them, in the command loop
;;   type T      press the keys of the text T
;;   asked R     wait until the echo area or the minibuffer matches the regexp R
;;   unsaid R    leave with a trouble if a message so far matches the regexp R
;;   ready       wait until the server says so (`midspan/status', which its settings must want)
;;   attached    wait until lsp-mode shows inline completions in the buffer
;;   ghost T     wait until the ghost text is T; null: until there is some; "" until there is none
;;   text T      wait until the buffer's text is T
;;   killed      end the server with SIGKILL
;; What was seen goes to `result' as JSON: `ghosts', one for each step of that name, or `trouble'.

;;; Code:

(require 'cl-lib)

(defvar driver-case
  (with-temp-buffer
    (let ((coding-system-for-read 'utf-8)) (insert-file-contents (getenv "MIDSPAN_CASE")))
    (json-parse-buffer :object-type 'alist :array-type 'list :null-object nil)))
(defvar driver-ghosts nil "What was seen, newest first.")
(defvar driver-steps (alist-get 'steps driver-case))
(defvar driver-began nil "When the first of `driver-steps' did; nil if it has not.")
(defvar driver-state nil "The server's state, as it says it.")

(defun driver-leave (&optional trouble)
  "Write what was seen, with TROUBLE if there is any, and end Emacs."
  (let ((coding-system-for-write 'utf-8-unix)
        (seen (if trouble `(:trouble ,(concat trouble "\n" (driver-logs)))
                `(:ghosts ,(vconcat (reverse driver-ghosts))))))
    (write-region (json-serialize seen) nil (alist-get 'result driver-case) nil 'silent)
    (kill-emacs (if trouble 1 0))))

(defun driver-logs ()
  "The text of every buffer in which the trouble may be told."
  (mapconcat (lambda (buffer) (with-current-buffer buffer (format "--- %s\n%s" (buffer-name) (buffer-string))))
             (cl-remove-if-not (lambda (it) (string-match-p "Messages\\|lsp\\|midspan\\|Warnings" (buffer-name it)))
                               (buffer-list))
             "\n"))

(defun driver-buffer ()
  "The buffer of the case's file."
  (find-buffer-visiting (alist-get 'file driver-case)))

(defun driver-text ()
  "Its text, as the file has it but for the line ends."
  (with-current-buffer (driver-buffer)
    (buffer-substring-no-properties (point-min) (point-max))))

(defun driver-workspace ()
  "Lsp-mode's workspace of the server, nil where none is attached."
  (with-current-buffer (driver-buffer)
    (cl-find 'midspan (lsp-workspaces) :key (lambda (it) (lsp--client-server-id (lsp--workspace-client it))))))

(defun driver-servers ()
  "The processes of all servers that are alive, lsp-mode's and eglot's."
  (cl-remove-if-not (lambda (it) (and (string-match-p "\\`\\(?:midspan\\|EGLOT\\)" (process-name it)) (process-live-p it)))
                    (process-list)))

(defun driver-ghost ()
  "The ghost text on screen, \"\" where there is none."
  (let ((overlay (buffer-local-value 'lsp-inline-completion--overlay (driver-buffer))))
    (if (not (and overlay (overlay-buffer overlay))) ""
      (let ((shown (concat (overlay-get overlay 'display) (overlay-get overlay 'after-string))))
        (apply #'string (cl-loop for char across shown for at from 0
                                 when (eq (get-text-property at 'face shown) 'lsp-inline-completion-overlay-face)
                                 collect char))))))

(defun driver-echo ()
  "What stands in the echo area or the minibuffer."
  (let ((window (active-minibuffer-window)))
    (if window (with-current-buffer (window-buffer window) (buffer-string)) (or (current-message) ""))))

(defun driver-press (keys)
  "Hand KEYS to the command loop."
  (setq unread-command-events (append unread-command-events (listify-key-sequence keys))))

(defun driver-begin (verb argument)
  "Do what the step of VERB and ARGUMENT does at once."
  (pcase verb
    ("keys" (driver-press (kbd argument)))
    ("type" (driver-press argument))
    ("killed" (setq driver-state nil) (signal-process (lsp--workspace-proc (driver-workspace)) 'SIGKILL))
    ("left" (cond ((featurep 'lsp-mode) (lsp-workspace-shutdown (driver-workspace)))
                  (t (with-current-buffer (driver-buffer) (eglot-shutdown (eglot-current-server))))))))

(defun driver-done (verb argument)
  "Whether what the step of VERB and ARGUMENT waits for is there."
  (pcase-exhaustive verb
    ((or "keys" "type") (not (or unread-command-events (input-pending-p))))
    ("asked" (string-match-p argument (driver-echo)))
    ("unsaid" (not (with-current-buffer "*Messages*" (string-match-p argument (buffer-string)))))
    ("ready" (equal driver-state "ready"))
    ("attached" (buffer-local-value 'lsp-inline-completion-mode (driver-buffer)))
    ("ghost" (if argument (equal (driver-ghost) argument) (not (equal (driver-ghost) ""))))
    ("text" (equal (driver-text) argument))
    ((or "killed" "left") (null (driver-servers)))))

(defun driver-tick ()
  "Begin the first of the steps, or go on to the next if it is done, or leave when its time is up."
  (pcase-let ((`(,verb ,argument) (car driver-steps)))
    (unless driver-began
      (setq driver-began (float-time))
      (driver-begin verb argument))
    (cond ((driver-done verb argument)
           (when (equal verb "ghost") (push (driver-ghost) driver-ghosts))
           (setq driver-steps (cdr driver-steps) driver-began nil)
           (unless driver-steps (driver-leave)))
          ((> (- (float-time) driver-began) (alist-get 'timeout_s driver-case))
           (driver-leave (format "waited in vain for %S\nthe text: %S\nthe ghost text: %S\nthe echo area: %S"
                                 (car driver-steps) (driver-text) (driver-ghost) (driver-echo)))))))

(defun driver-guarded-tick ()
  "As `driver-tick'; an error of the driver's own is a trouble."
  (condition-case trouble (driver-tick) (error (driver-leave (format "the driver: %S" trouble)))))

;; Neither client has a handler for it.
(with-eval-after-load 'lsp-mode
  (puthash "midspan/status" (lambda (_workspace params) (setq driver-state (lsp-get params :state)))
           lsp--default-notification-handlers))
(with-eval-after-load 'eglot
  (cl-defmethod eglot-handle-notification (_server (_method (eql midspan/status)) &key state &allow-other-keys)
    (setq driver-state state)))
(setq driver-steps (append driver-steps '(("left"))))
(add-hook 'emacs-startup-hook (lambda () (run-with-timer 0 0.02 #'driver-guarded-tick)))

;;; driver.el ends here
