from pathlib import Path

from fastapi import APIRouter, UploadFile
from fastapi.responses import FileResponse

router = APIRouter(prefix="/pictures")
UPLOADS = Path("uploads")


@router.post("/")
async def upload(file: UploadFile):
    (UPLOADS / Path(file.filename).name).write_bytes(await file.read())
    return {"filename": file.filename}


@router.get("/")
async def pictures():
    return {"pictures": sorted(one.name for one in UPLOADS.iterdir() if not one.name.startswith("."))}


@router.get("/{name}")
async def picture(name: str):
    return FileResponse(UPLOADS / Path(name).name)
