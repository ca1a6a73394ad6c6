"""Mail through an SMTP server: text first, then the same as HTML; threaded by episode."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate

from alerts.notice import Notice, NoticeKind
from alerts.notifiers.html_mail import document
from alerts.notifiers.notifier import Delivery, NotifyError
from alerts.receiver import Smtp
from alerts.rule import Severity


class SmtpNotifier:
    """One server and its recipients."""

    dedups = False

    def __init__(self, options: Smtp) -> None:
        self._options = options

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        import smtplib

        from alerts.notifiers.mail_session import MailSession

        options = self._options
        mail = message(notice, options, ref)
        try:
            with MailSession(options.host, options.port, deadline_s=deadline_s) as server:
                if options.starttls:
                    server.secure()
                if options.username is not None and options.password is not None:
                    server.login(options.username, options.password.reveal())
                server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            # 4yz asks to come back later, 5yz is a no (RFC 5321, 4.2.1).
            raise NotifyError(
                f"{options.host} answered {error.smtp_code}", retryable=400 <= error.smtp_code < 500
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise NotifyError(
                f"{options.host} refused every recipient ({codes[0]})",
                retryable=all(400 <= code < 500 for code in codes),
            ) from error
        except smtplib.SMTPException as error:
            raise NotifyError(f"{options.host}: {error}", retryable=True) from error
        return Delivery(ref=ref or str(mail["Message-ID"]))

    def warm(self) -> None:
        from alerts.notifiers import mail_session

        del mail_session


def message(notice: Notice, options: Smtp, ref: str | None) -> EmailMessage:
    """The mail; later ones of an episode refer to its first, so that a reader shows one thread."""
    mail = EmailMessage()
    mail["Subject"] = subject(notice) if ref is None else f"Re: {subject(notice)}"
    mail["From"] = options.sender
    mail["To"] = ", ".join(options.to)
    mail["Date"] = formatdate(notice.at_s)
    domain = options.sender.rpartition("@")[2].rstrip(">") or "gaia"
    mail["Message-ID"] = f"<{notice.episode.replace(':', '.')}.{notice.kind}.{round(notice.at_s)}@{domain}>"
    if ref is not None:
        mail["In-Reply-To"] = ref
        mail["References"] = ref
    mail["Auto-Submitted"] = "auto-generated"
    if notice.kind is not NoticeKind.RESOLVE and notice.severity is Severity.PAGE:
        mail["X-Priority"] = "1"
    mail.set_content(text(notice))
    mail.add_alternative(document(notice), subtype="html")
    return mail


def subject(notice: Notice) -> str:
    """`[PROD page] postgres cannot be used: ...`, on one line whatever a label contains."""
    title = " ".join(notice.title.split())
    env, dot, rest = title.partition(" · ")
    level = f"{env if dot else notice.env.upper()} {notice.severity}"
    return f"[{level}] {rest if dot else title}"


def text(notice: Notice) -> str:
    """The plain part: the blocks, then every link in full."""
    links = "".join(f"\n{label}: {url}" for label, url in notice.links)
    again = "\n\n(possibly repeated)" if notice.repeated else ""
    return f"{notice.text}\n{links}{again}\n"
